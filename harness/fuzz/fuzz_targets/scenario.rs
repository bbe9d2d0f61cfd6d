//! A scenario file that holds anything.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vtax_scenarios::plan::HostFacts;
use vtax_scenarios::{Overrides, host, parse};

fuzz_target!(|text: &str| {
    match parse("fuzz.toml", text, &Overrides::default()) {
        Ok(loaded) => {
            let _ = loaded.render_warnings(false);
            let _ = host::check(&loaded.plan, &HostFacts::default());
        }
        Err(error) => {
            let _ = error.to_string();
        }
    }
});
