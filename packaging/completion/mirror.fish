# fish reads this at the first TAB after "mirror". The program knows its options itself.
mirror completion fish | source
