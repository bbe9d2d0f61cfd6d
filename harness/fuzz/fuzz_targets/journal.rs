//! A journal of changed settings that holds anything: it is read by root, on the next start.

#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use vtax::host::journal::{Journal, Origin};
use vtax::host::root::HostRoot;

fuzz_target!(|bytes: &[u8]| {
    let Ok(folder) = tempfile::tempdir() else {
        return;
    };
    let host = HostRoot::at(folder.path());
    let Ok(empty) = Journal::at(&host, folder.path(), Origin::Run) else {
        return;
    };
    if fs::write(empty.path(), bytes).is_err() {
        return;
    }
    if let Ok(journal) = Journal::at(&host, folder.path(), Origin::Run) {
        for change in journal.changes() {
            let _ = change.explains("0");
        }
    }
});
