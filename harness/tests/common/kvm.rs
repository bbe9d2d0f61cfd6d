//! Whether there is KVM to test with.

use crate::skip::skip;

/// Whether this test may use KVM; says so where not.
///
/// # Panics
/// There is a /dev/kvm that cannot be used, or with `VTAX_REQUIRE_KVM=1` none.
pub fn has_kvm() -> bool {
    let required = std::env::var_os("VTAX_REQUIRE_KVM").is_some_and(|value| value == "1");
    match vtax::guest::embedded::open() {
        Ok(_) => true,
        Err(error) if required || std::path::Path::new("/dev/kvm").exists() => {
            panic!("/dev/kvm cannot be used: {error}")
        }
        Err(error) => {
            skip(&format!("it needs /dev/kvm: {error}"));
            false
        }
    }
}
