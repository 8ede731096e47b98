//! The clock and the random numbers of the operating system, while a simulation runs.
//!
//! Libraries ask the system and not us: when an HTTP/2 stream was reset, how a hash map is seeded. Such answers
//! decide what is sent, so they too must follow from the seed and from virtual time. These functions stand in
//! for the C library's in this program; on a thread without a simulation they pass the question on.
#![expect(
    unsafe_code,
    reason = "the C library's functions can be stood in for in no other way"
)]

use std::cell::Cell;
use std::ffi::{c_int, c_long, c_uint, c_void};

use rustix::time::ClockId;

use super::clock;

thread_local! {
    static SIMULATED: Cell<bool> = const { Cell::new(false) };
}

/// From now on the system's answers on this thread are the simulation's, or no longer.
pub(crate) fn simulate(on: bool) {
    SIMULATED.set(on);
}

/// `struct timespec` of 64-bit Linux.
#[repr(C)]
#[expect(unreachable_pub, reason = "part of the C library's interface")]
pub struct TimeSpec {
    seconds: i64,
    nanoseconds: c_long,
}

/// `clock_realtime` and its like; every other clock counts from a start.
const CLOCK_REALTIME: c_int = 0;
const CLOCK_REALTIME_COARSE: c_int = 5;
const NANOS: i64 = 1_000_000_000;
/// A machine that was just started has no time before zero to subtract.
const MONOTONIC_START_S: i64 = 1_000_000;

/// Stands in for the C library's function of that name.
///
/// # Safety
/// `time` points to a `struct timespec` that may be written.
#[unsafe(no_mangle)]
#[expect(unreachable_pub, reason = "the linker reaches it")]
pub unsafe extern "C" fn clock_gettime(clock_id: c_int, time: *mut TimeSpec) -> c_int {
    let answer = if SIMULATED.get() {
        let elapsed = clock::elapsed();
        let (seconds, nanoseconds) = match clock_id {
            CLOCK_REALTIME | CLOCK_REALTIME_COARSE => {
                let now_ms = i64::try_from(clock::wall_ms()).unwrap_or(i64::MAX);
                (now_ms / 1000, (now_ms % 1000) * (NANOS / 1000))
            }
            _ => (
                MONOTONIC_START_S + i64::try_from(elapsed.as_secs()).unwrap_or(0),
                i64::from(elapsed.subsec_nanos()),
            ),
        };
        TimeSpec {
            seconds,
            nanoseconds,
        }
    } else {
        let clock = match clock_id {
            CLOCK_REALTIME | CLOCK_REALTIME_COARSE => ClockId::Realtime,
            _ => ClockId::Monotonic,
        };
        // Asks the kernel itself, not this function again.
        let now = rustix::time::clock_gettime(clock);
        TimeSpec {
            seconds: now.tv_sec,
            nanoseconds: now.tv_nsec,
        }
    };
    // SAFETY: the caller says that it may be written.
    unsafe { time.write(answer) };
    0
}

/// Stands in for the C library's function of that name.
///
/// # Safety
/// `buffer` points to `length` bytes that may be written.
#[unsafe(no_mangle)]
#[expect(unreachable_pub, reason = "the linker reaches it")]
pub unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, flags: c_uint) -> isize {
    // SAFETY: the caller says that they may be written.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
    if SIMULATED.get() {
        virtflow_types::chance::fill(bytes);
        return isize::try_from(length).unwrap_or(isize::MAX);
    }
    let flags = rustix::rand::GetRandomFlags::from_bits_retain(flags);
    match rustix::rand::getrandom(bytes, flags) {
        Ok(written) => isize::try_from(written).unwrap_or(-1),
        Err(_) => -1,
    }
}
