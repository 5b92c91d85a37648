//! Tests of the whole: peers against each other, and runs against a small server whose faults are known.

mod end_to_end;
mod loopback;
mod server;
