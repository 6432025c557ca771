"""The functions of the library: how each is called, and what its reply means.

One module a subject. A function `hc_NAME` has one builder, `NAME`, which knows the order of its arguments, and one
reader, `read_NAME` unless the builder names another, which knows the words and the form of its result. Nothing outside
this package knows these. The other side is `library/*.lua`, where the header of each function says the same. What a
function returns and nobody here knows raises UnknownReply, which is answered as an InternalError with an incident.

Below the subjects are `results` and `effects`, the words that all of them share, and `kinds`, what is known of a
function before it is called. Callers import the module of a subject and call what is in it; words and types they import
by name.
"""
