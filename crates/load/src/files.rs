//! Whether this system can make load: how many worker processes a run takes, and whether the limit of open files allows it. Pure,
//! but for asking for the limit.

/// Files of a worker that are not connections.
const WORKER_RESERVED: u64 = 64;
/// Files of the process that leads the workers, and those that it has for each: two pipes and the process.
const COORDINATOR_RESERVED: u64 = 32;
const FILES_PER_WORKER: u64 = 3;

/// Whether there can be workers on this system.
///
/// # Errors
/// One line that says what is missing.
pub fn check_system() -> Result<(), &'static str> {
    match cfg!(all(target_os = "linux", not(baiwan_portable))) {
        true => Ok(()),
        false => Err("the load generator runs on Linux only, because its workers hold their connections with epoll"),
    }
}

/// How many workers these connections take: as many as were `asked` for, or as few as the limit of open files allows. Raises the
/// limit as far as it may be.
///
/// # Errors
/// One line that names the limit and what is needed.
pub fn workers(connections: u64, asked: Option<u64>) -> Result<u64, String> {
    fit(connections, asked, file_limit())
}

/// How many files this process, and each of its workers, may open.
pub(crate) fn file_limit() -> u64 {
    #[cfg(all(target_os = "linux", not(baiwan_portable)))]
    return baiwan_driver::raise_file_limit().soft;
    // Without workers, nobody opens any.
    #[cfg(not(all(target_os = "linux", not(baiwan_portable))))]
    return 0;
}

fn fit(connections: u64, asked: Option<u64>, limit: u64) -> Result<u64, String> {
    if let Some(workers) = workers_within(connections, asked, limit) {
        return Ok(workers);
    }
    let needed = least_limit(connections, asked);
    let workers = workers_within(connections, asked, needed).unwrap_or(1);
    let workers = if workers == 1 { "one worker".to_owned() } else { format!("{workers} workers") };
    Err(format!(
        "{connections} connections from {workers} need ulimit -n {needed}, and it is {limit}: a worker opens one file for \
         each of its connections and {WORKER_RESERVED} others, this process {FILES_PER_WORKER} for each worker and \
         {COORDINATOR_RESERVED} others"
    ))
}

/// How many workers there are, if a limit allows them.
fn workers_within(connections: u64, asked: Option<u64>, limit: u64) -> Option<u64> {
    let room = limit.checked_sub(WORKER_RESERVED).filter(|room| *room > 0)?;
    let workers = asked.unwrap_or(connections.div_ceil(room)).max(1);
    let fits = connections.div_ceil(workers) <= room && COORDINATOR_RESERVED + FILES_PER_WORKER * workers <= limit;
    fits.then_some(workers)
}

/// The least limit that allows it: where one does, each higher one does.
fn least_limit(connections: u64, asked: Option<u64>) -> u64 {
    let (mut low, mut high) = (0, WORKER_RESERVED + connections + FILES_PER_WORKER * asked.unwrap_or(1));
    while low < high {
        let middle = low + (high - low) / 2;
        match workers_within(connections, asked, middle) {
            Some(_) => high = middle,
            None => low = middle + 1,
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_few_workers_as_the_limit_allows() {
        for (connections, asked, limit, workers) in [
            (50, None, 1024, 1),
            (960, None, 1024, 1),
            (961, None, 1024, 2),
            (1_000_000, None, 20_000, 51),
            (5, Some(4), 1024, 4),
        ] {
            assert_eq!(fit(connections, asked, limit), Ok(workers), "{connections} {asked:?} {limit}");
        }
    }

    #[test]
    fn a_limit_that_is_too_low_is_named_with_the_one_that_will_do() {
        for (connections, asked, limit, needed) in [
            (300, None, 64, 83),
            (1, None, 0, 65),
            (300, Some(2), 200, 214),
            (50, Some(1000), 1024, 3032),
            (1_000_000, None, 1024, 1781),
        ] {
            let line = fit(connections, asked, limit).unwrap_err();
            assert!(line.contains(&format!("need ulimit -n {needed}, and it is {limit}:")), "{line}");
            assert!(fit(connections, asked, needed).is_ok() && fit(connections, asked, needed - 1).is_err(), "{line}");
            assert_eq!(line.lines().count(), 1);
        }
    }
}
