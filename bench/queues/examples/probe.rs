//! probe: <kind> <runtime> <pairs> <items> <rounds>
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let kind = baiwan_bench_queues::KINDS.into_iter().find(|k| k.name() == a[1]).unwrap();
    let rt = if a[2] == "ct" { tokio::runtime::Builder::new_current_thread().build().unwrap() } else { tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap() };
    let pairs: usize = a[3].parse().unwrap(); let items: u64 = a[4].parse().unwrap(); let rounds: usize = a[5].parse().unwrap();
    let mut best = f64::MAX; let mut sum = 0.0;
    for _ in 0..rounds { let t = std::time::Instant::now(); kind.run(&rt, pairs, items); let e = t.elapsed().as_nanos() as f64 / items as f64; best = best.min(e); sum += e; }
    println!("{:14} {} {:3}: best {:6.1} mean {:6.1} ns/item", kind.name(), a[2], pairs, best, sum / rounds as f64);
}
