//! Request and response: every round trip within the window is kept, and the distribution returned.

use crate::Failure;
use crate::clock::{nanos, now_ns, seconds};
use crate::machine::Machine;
use crate::options::Ping;
use crate::sides::{Shared, enter, pin, start_far};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

/// A UDP answer that takes longer is lost; beside a bulk load through a full queue, tens of milliseconds are real.
const LOST: Duration = Duration::from_millis(250);

/// One request and its response. `Ok(false)`: lost.
type Exchange = Box<dyn FnMut(&mut [u8]) -> io::Result<bool>>;

/// Asks until the window is over and returns the distribution as JSON.
pub fn run(options: &Ping) -> Result<String, Failure> {
    let address = SocketAddr::new(options.sides.address, options.sides.port);
    let far = start_far(&options.sides.far, |shared| {
        pin(options.far_cpu)?;
        if options.tcp { echo_tcp(address, shared) } else { echo_udp(address, shared) }
    })?;
    enter(&options.sides.near)?;
    pin(options.near_cpu)?;
    let exchange = if options.tcp { over_tcp(address) } else { over_udp(address) };
    let mut exchange = exchange.map_err(|error| format!("connect to {address} through the tunnel: {error}"))?;
    let failed = |error: io::Error| format!("round trip to {address}: {error}");

    let mut message = vec![0x5a; options.size];
    let mut trips: Vec<u32> = Vec::with_capacity(1 << 18);
    let mut lost = 0;
    let warm_until = now_ns() + nanos(options.warm);
    while now_ns() < warm_until {
        exchange(&mut message).map_err(failed)?;
    }
    let machine = Machine::read()?;
    let start = now_ns();
    let end = start + nanos(options.seconds);
    let mut before = start;
    while before < end {
        let answered = exchange(&mut message).map_err(failed)?;
        let after = now_ns();
        match answered {
            true => trips.push(u32::try_from(after - before).unwrap_or(u32::MAX)),
            false => lost += 1,
        }
        before = after;
    }
    let spent = Machine::read()?.since(&machine);
    far.check()?;
    trips.sort_unstable();
    let at = |share: f64| {
        let index = (trips.len() as f64 * share).ceil() as usize;
        trips.get(index.saturating_sub(1)).map_or("null".to_owned(), |nanos| format!("{:.3}", f64::from(*nanos) / 1000.0))
    };
    Ok(format!(
        r#"{{"seconds":{},"trips":{},"lost":{lost},"p50_us":{},"p99_us":{},"p999_us":{},"busy":{:.4},"steal":{:.4}}}"#,
        seconds(before - start),
        trips.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        spent.busy,
        spent.steal,
    ))
}

fn over_udp(address: SocketAddr) -> io::Result<Exchange> {
    let any = if address.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(LOST))?;
    let mut number = 0u8;
    Ok(Box::new(move |message| {
        // Numbered, so that the late answer to a lost request is not taken for this one's.
        number = number.wrapping_add(1);
        if let Some(first) = message.first_mut() {
            *first = number;
        }
        socket.send(message)?;
        loop {
            match socket.recv(message) {
                Ok(_) if message.first() == Some(&number) => return Ok(true),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }))
}

fn over_tcp(address: SocketAddr) -> io::Result<Exchange> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_nodelay(true)?;
    Ok(Box::new(move |message| {
        stream.write_all(message)?;
        stream.read_exact(message)?;
        Ok(true)
    }))
}

fn echo_udp(address: SocketAddr, shared: &Shared) -> Result<(), Failure> {
    let socket = UdpSocket::bind(address).map_err(|error| format!("bind {address}: {error}"))?;
    shared.set_ready();
    let mut message = [0; 9000];
    loop {
        let (len, from) = socket.recv_from(&mut message).map_err(|error| format!("receive on {address}: {error}"))?;
        // An answer that cannot be sent is one lost; the asking side counts it.
        let _ = socket.send_to(message.get(..len).unwrap_or(&[]), from);
    }
}

fn echo_tcp(address: SocketAddr, shared: &Shared) -> Result<(), Failure> {
    let listener = TcpListener::bind(address).map_err(|error| format!("listen on {address}: {error}"))?;
    shared.set_ready();
    let failed = |error: io::Error| format!("echo on {address}: {error}");
    let (mut stream, _) = listener.accept().map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    let mut message = [0; 9000];
    loop {
        match stream.read(&mut message).map_err(failed)? {
            0 => return Ok(()),
            len => stream.write_all(message.get(..len).unwrap_or(&[])).map_err(failed)?,
        }
    }
}
