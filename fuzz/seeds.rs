//! Writes the seeds of every target into folders of their names: the corpus that a fuzzer begins with.

fn main() -> std::io::Result<()> {
    let corpus = std::env::args().nth(1).expect("usage: seeds CORPUS");
    for target in clutchcall_fuzz::clutchcall::fuzz::TARGETS {
        let folder = std::path::Path::new(&corpus).join(target.name);
        std::fs::create_dir_all(&folder)?;
        for (at, seed) in (target.seeds)().iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{at}")), seed)?;
        }
    }
    Ok(())
}
