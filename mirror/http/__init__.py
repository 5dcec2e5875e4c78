"""HTTP for the API, git and LFS alike: origins, redirects, proxies, certificates, retries, transfer rates."""
