# bash-completion reads this at the first TAB after "mirror". The program knows its options itself.
eval "$(mirror completion bash)"
