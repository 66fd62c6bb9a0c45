#![no_main]

clutchcall_fuzz::shim!("wire_json");
