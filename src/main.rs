//! The `tollgate` binary.

use mimalloc::MiMalloc;
use std::process::ExitCode;

// An HTTP/2 request allocates ten times, in places too large for the shortest way of the system's allocator (docs/decisions/0121).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    tollgate::cli::main()
}
