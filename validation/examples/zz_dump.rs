//! Scratch.
use sim_models::collective::*;
use validation::collectives::rows;
fn main() {
    let f = std::env::args().nth(1).unwrap();
    let text = std::fs::read_to_string(f).unwrap();
    let v = Parameters::builtin().values();
    for r in rows(&text).unwrap() {
        match &r.sample {
            Ok(s) => {
                let m = Nccl::with_values(s.fabric, v).unwrap();
                let e = if s.pairs > 0 { m.side_by_side(sim_models::units::Bytes(s.bytes), s.pairs) } else { m.time(s.kind, sim_models::units::Bytes(s.bytes), s.group) }.unwrap();
                println!("{},{},{},{},{:.2},{:.2},{:.3},{:?}{:?}", r.source, r.gpu, s.group.ranks(), s.bytes, s.seconds * 1e6, e.seconds * 1e6, e.seconds / s.seconds - 1.0, e.algorithm, e.protocol);
            }
            Err(e) => println!("{},{},{:?}", r.source, r.line, e),
        }
    }
}
