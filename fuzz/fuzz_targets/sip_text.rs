#![no_main]

clutchcall_fuzz::shim!("sip_text");
