//! The freestanding guest image of vtax, built by `build.rs` from `bare/` and embedded.
//!
//! ```text
//! workloads ──► bare/ (ring 3: payload; ring 0: exceptions, timer, IPI) ──► static ELF at 0x3fe00000 ──► BARE_ELF
//! ```

/// The image: a static x86-64 ELF. It starts with the `Header` of `vtax_workloads::abi` at its lowest virtual
/// address, carries a PVH note, and is loaded at the physical addresses of its program headers.
pub static BARE_ELF: &[u8] = include_bytes!(env!("VTAX_BARE_ELF"));
