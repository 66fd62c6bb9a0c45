#![no_main]

clutchcall_fuzz::shim!("uni_stream");
