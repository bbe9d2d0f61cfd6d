//! A scenario file that holds anything.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vtax_scenarios::plan::HostFacts;
use vtax_scenarios::{Overrides, Testability, parse};

fuzz_target!(|text: &str| {
    match parse("fuzz.toml", text, &Overrides::default()) {
        Ok(loaded) => {
            let _ = loaded.render_warnings(false);
            let _ = Testability::of(&loaded.plan, &HostFacts::default()).summary(&loaded.plan);
        }
        Err(error) => {
            let _ = error.to_string();
        }
    }
});
