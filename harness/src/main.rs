//! The `vtax` binary: see [`vtax::cli`].

fn main() -> std::process::ExitCode {
    vtax::cli::main()
}
