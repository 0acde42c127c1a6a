//! SSH streams against servers by others. What a server is told to be it is: OpenSSH's client says so first.

mod proof;
