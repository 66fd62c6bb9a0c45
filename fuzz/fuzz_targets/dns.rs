#![no_main]

clutchcall_fuzz::shim!("dns");
