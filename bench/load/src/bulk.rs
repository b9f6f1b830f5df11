//! TCP streams. What counts is what the receiving program has read within the window.

use crate::Failure;
use crate::clock::{now_ns, seconds};
use crate::machine::Machine;
use crate::options::Bulk;
use crate::sides::{Shared, enter, start_far};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

/// Bytes a read or write: what iperf3 uses.
const BLOCK: usize = 128 << 10;
/// The first byte of a connection says which way its stream goes.
const TO_FAR: u8 = 1;
const TO_NEAR: u8 = 2;

/// Runs the streams and returns the result as JSON.
pub fn run(options: &Bulk) -> Result<String, Failure> {
    let address = SocketAddr::new(options.sides.address, options.sides.port);
    let far = start_far(&options.sides.far, |shared| serve(address, shared))?;
    let shared = far.shared;
    enter(&options.sides.near)?;
    for _ in 0..options.flows {
        open(address, TO_FAR, shared)?;
        if options.both {
            open(address, TO_NEAR, shared)?;
        }
    }
    thread::sleep(options.warm);
    let read = || (now_ns(), shared.far.load(Relaxed), shared.near.load(Relaxed));
    let machine = Machine::read()?;
    let (start, far_before, near_before) = read();
    thread::sleep(options.seconds);
    let (end, far_after, near_after) = read();
    let spent = Machine::read()?.since(&machine);
    far.check()?;
    Ok(format!(
        r#"{{"seconds":{},"bytes_out":{},"bytes_back":{},"busy":{:.4},"steal":{:.4}}}"#,
        seconds(end - start),
        far_after - far_before,
        near_after - near_before,
        spent.busy,
        spent.steal,
    ))
}

fn open(address: SocketAddr, direction: u8, shared: &'static Shared) -> Result<(), Failure> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))
        .map_err(|error| format!("connect to {address} through the tunnel: {error}"))?;
    stream.write_all(&[direction]).map_err(|error| format!("write to {address}: {error}"))?;
    thread::spawn(move || if direction == TO_FAR { send(stream) } else { receive(stream, &shared.near) });
    Ok(())
}

fn serve(address: SocketAddr, shared: &'static Shared) -> Result<(), Failure> {
    let listener = TcpListener::bind(address).map_err(|error| format!("listen on {address}: {error}"))?;
    shared.set_ready();
    loop {
        let (mut stream, _) = listener.accept().map_err(|error| format!("accept on {address}: {error}"))?;
        thread::spawn(move || {
            let mut direction = [0];
            match stream.read_exact(&mut direction) {
                Ok(()) if direction == [TO_NEAR] => send(stream),
                Ok(()) => receive(stream, &shared.far),
                // The near side is gone, and with it this process in a moment.
                Err(_) => {}
            }
        });
    }
}

/// Writes until the other side is gone, as it is when the measurement ends.
fn send(mut stream: TcpStream) {
    let block = vec![0x5a; BLOCK];
    while stream.write_all(&block).is_ok() {}
}

fn receive(mut stream: TcpStream, counter: &AtomicU64) {
    let mut block = vec![0; BLOCK];
    while let Ok(count @ 1..) = stream.read(&mut block) {
        counter.fetch_add(count as u64, Relaxed);
    }
}
