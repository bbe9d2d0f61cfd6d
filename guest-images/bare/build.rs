//! Links the image freestanding, at its fixed address.

fn main() {
    println!("cargo:rerun-if-changed=image.ld");
    for argument in [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-no-pie",
        "-Wl,--build-id=none",
        "-Wl,-z,max-page-size=4096",
        "-Wl,-z,noexecstack",
    ] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    // By its bare name: the linker runs in this folder, and a checkout may be moved.
    println!("cargo:rustc-link-arg-bins=-Wl,-T,image.ld");
}
