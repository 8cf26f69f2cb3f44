//! The `tollgate` binary.

use mimalloc::MiMalloc;
use std::process::ExitCode;

/// A request allocates a few dozen times, nearly all of it in hyper and on one thread: see `benches/runs` for what this saves.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    tollgate::cli::main()
}
