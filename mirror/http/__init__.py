"""HTTP as the API, git and LFS use it: one rule for origins, redirects, proxies, certificates, rates."""
