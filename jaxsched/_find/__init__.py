"""The task of `jaxsched find`: the range test of an optimizer, on many seeds in one program."""
