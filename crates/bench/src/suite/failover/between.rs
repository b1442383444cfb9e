//! The ways from member to member: a proxy from each to each other one, so that one of them can be cut off while
//! the rest go on. All members are told the same place to reach one of them at, so the one that dials is found
//! out by its process, which has the other end of the connection.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use tenure_proxy::Proxy;

/// Of Linux's `/proc/net/tcp`: where the own address and the inode are.
const FIELD_ADDRESS: usize = 1;
const FIELD_INODE: usize = 9;

#[derive(Clone, Debug, Default)]
pub(super) struct Between(Arc<Mutex<Ways>>);

#[derive(Debug, Default)]
struct Ways {
    /// Each with the process that it comes from and the index of the member that it leads to.
    proxies: HashMap<(u32, usize), Arc<Proxy>>,
    /// Who hears of nobody, as a process and as an index.
    cut_off: Option<(u32, usize)>,
}

impl Between {
    /// Listens for whoever wants the member of this index, which listens there; says where.
    pub(super) fn lead_to(&self, index: usize, member: SocketAddr) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let ways = self.clone();
        // It ends with this process.
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let ways = ways.clone();
                thread::spawn(move || {
                    let _ = ways.carry(&near, index, member);
                });
            }
        });
        Ok(address)
    }

    /// Nothing comes to or from the member of this index, which is this process, any more.
    pub(super) fn cut_off(&self, index: usize, process: u32) {
        let mut ways = self.ways();
        ways.cut_off = Some((process, index));
        ways.concerned((process, index)).for_each(Proxy::black_hole);
    }

    /// What was held comes through.
    pub(super) fn heal(&self) {
        let mut ways = self.ways();
        if let Some(cut_off) = ways.cut_off.take() {
            ways.concerned(cut_off).for_each(Proxy::heal);
        }
    }

    fn carry(&self, near: &TcpStream, index: usize, member: SocketAddr) -> io::Result<()> {
        let process = process_of(near.peer_addr()?)?;
        let proxy = self.ways().proxy(process, index, member)?;
        let far = TcpStream::connect(proxy.endpoint().trim_start_matches("http://"))?;
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        thread::scope(|scope| {
            scope.spawn(|| pass(near, &far));
            pass(&far, near);
        });
        Ok(())
    }

    fn ways(&self) -> MutexGuard<'_, Ways> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ways {
    fn proxy(&mut self, process: u32, index: usize, member: SocketAddr) -> io::Result<Arc<Proxy>> {
        if let Some(proxy) = self.proxies.get(&(process, index)) {
            return Ok(proxy.clone());
        }
        let proxy = Arc::new(Proxy::start(&member.to_string())?);
        if self.cut_off.is_some_and(|(from, to)| process == from || index == to) {
            proxy.black_hole();
        }
        self.proxies.insert((process, index), proxy.clone());
        Ok(proxy)
    }

    fn concerned(&self, (process, index): (u32, usize)) -> impl Iterator<Item = &Proxy> {
        let concerned = move |(from, to): &(u32, usize)| *from == process || *to == index;
        self.proxies.iter().filter(move |(ends, _)| concerned(ends)).map(|(_, proxy)| &**proxy)
    }
}

/// Until one of them ends.
fn pass(mut from: &TcpStream, mut to: &TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

/// The process whose end of a connection over loopback this is.
fn process_of(end: SocketAddr) -> io::Result<u32> {
    let table = fs::read_to_string("/proc/net/tcp")?;
    let at = format!("0100007F:{:04X}", end.port());
    let line = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let line = line.filter(|fields| fields.get(FIELD_ADDRESS) == Some(&at.as_str()));
    let inodes: Vec<String> =
        line.filter_map(|fields| Some(format!("socket:[{}]", fields.get(FIELD_INODE)?))).collect();
    let pids = fs::read_dir("/proc")?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let has_it = |pid: &u32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut links = files.filter_map(|file| fs::read_link(file.path()).ok());
        links.any(|link| inodes.iter().any(|inode| link.as_os_str() == inode.as_str()))
    };
    pids.filter(|pid| *pid > 0)
        .find(has_it)
        .ok_or_else(|| io::Error::other("nobody's connection"))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_process_is_known_by_its_end_of_a_connection_and_cut_off() {
        let member = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let between = Between::default();
        let way = between.lead_to(1, member.local_addr().unwrap()).unwrap();
        let mut near = TcpStream::connect(way).unwrap();
        assert_eq!(
            process_of(near.local_addr().unwrap()).unwrap(),
            std::process::id()
        );
        let (mut far, _) = member.accept().unwrap();
        let mut pass = |byte: u8| {
            near.write_all(&[byte]).unwrap();
            let mut read = [0];
            far.read_exact(&mut read).map(|()| read[0])
        };
        assert_eq!(pass(7).unwrap(), 7);
        between.cut_off(0, std::process::id());
        far.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
        near.write_all(&[8]).unwrap();
        assert!(far.read_exact(&mut [0]).is_err());
        between.heal();
        far.set_read_timeout(None).unwrap();
        let mut read = [0];
        far.read_exact(&mut read).unwrap();
        assert_eq!(read, [8]);
    }
}
