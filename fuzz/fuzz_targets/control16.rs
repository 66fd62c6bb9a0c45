#![no_main]

clutchcall_fuzz::shim!("control16");
