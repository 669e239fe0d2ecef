use super::*;

fn named(file: &str) -> Context {
    Context { file: file.into(), ..Context::default() }
}

#[test]
fn layers_of_each_kind_read() {
    let sailor = r#"{"2": {"4": {"0": [0.001, 0.0, 0.002], "1": [0.003, 0.006, 0.002]}}}"#;
    let p = read(Kind::Sailor, sailor.as_bytes(), &named("profile.json")).unwrap();
    assert_eq!(
        (p.layers.len(), p.layers[1].tp, p.layers[1].backward_s, p.layers[0].backward_s),
        (2, 4, Some(0.006), None)
    );

    let varuna = r#"{"1": {"2": {"forward": 0.003, "backward": 0.006, "params_bytes": 1}}}"#;
    let p = read(Kind::Varuna, varuna.as_bytes(), &named("a/profile_4.json")).unwrap();
    assert_eq!((p.layers[0].tp, p.layers[0].micro_batch, p.layers[0].forward_s), (4, 2, Some(0.003)));

    let metis = r#"{"execution_time": {"layer_compute_total_ms": [0.5, 29.5]}}"#;
    for (file, tp, batch) in [("DeviceType.A100_tp2_bs4.json", 2, 4), ("mbs4_tmp2.json", 2, 4)] {
        let p = read(Kind::Metis, metis.as_bytes(), &named(file)).unwrap();
        assert_eq!(
            (p.layers[1].tp, p.layers[1].micro_batch, p.layers[1].both_s),
            (tp, batch, Some(29.5 * 1e-3))
        );
    }

    let galvatron = r#"{"layernum[2]_bsz1_seq2048": 15.0, "layernum[4]_bsz1_seq2048": 24.0, "layernum[2]_bsz9_seq2048": 9.0}"#;
    let p = read(Kind::Galvatron, galvatron.as_bytes(), &named("c.json")).unwrap();
    assert_eq!((p.layers.len(), p.skipped), (1, 1));
    assert!((p.layers[0].forward_s.unwrap() - 0.0045).abs() < 1e-12);

    let mut npy =
        b"\x93NUMPY\x01\x00\x36\x00{'descr': '<f8', 'fortran_order': False, 'shape': (2,)}\n".to_vec();
    npy[8] = u8::try_from(npy.len() - 10).unwrap();
    for t in [0.001f64, 0.002] {
        npy.extend(t.to_le_bytes());
    }
    let p = read(Kind::Amp, &npy, &named("gpt2_G4_2.npy")).unwrap();
    assert_eq!((p.layers.len(), p.layers[1].tp, p.layers[1].forward_s), (2, 2, Some(0.002)));
}

#[test]
fn operators_of_each_kind_read() {
    let vidur = "time_stats.attn_pre_proj.median,time_stats.add.median,n_head,n_kv_head,n_embd,n_expanded_embd,\
                 use_gated_mlp,num_tokens,num_tensor_parallel_workers\n1.5,,32,8,4096,11008,True,4096,4\n";
    let p = read(Kind::Vidur, vidur.as_bytes(), &named("mlp.csv")).unwrap();
    assert_eq!(p.operators[0].op, Operator::gemm(4096, (8 + 2 * 2) * 128, 4096));
    assert_eq!((p.operators.len(), p.operators[0].seconds), (1, 0.0015));

    let dense = "layer,tokens,time_us\nqkv_proj,64,100\nsampler,64,1\n";
    let sizes = ModelSizes { hidden: 4096, heads: 32, kv_heads: 8, head_width: 128, ffn_hidden: 14336 };
    let context = Context { file: "RTX4090/tp2/dense.csv".into(), sizes: Some(sizes), ..Context::default() };
    let p = read(Kind::LlmServingSim, dense.as_bytes(), &context).unwrap();
    assert_eq!((p.operators[0].op, p.skipped), (Operator::gemm(64, (16 + 8) * 128, 4096), 1));

    let simumax = r#"{"accelerator": {"op": {"matmul": {"tflops": 100.0, "accurate_efficient_factor":
        {"b=1, m=1000, k=1000, n=1000, layout=TN, accumulate=False, out_dtype=bf16": 0.5}}, "default": {"tflops": 1}}}}"#;
    let p = read(Kind::SimuMax, simumax.as_bytes(), &named("s.json")).unwrap();
    assert!((p.operators[0].seconds - 2e9 / 50e12).abs() < 1e-18);
}

#[test]
fn our_csv_comes_back_as_it_was() {
    let text = "operator,pass,format,batch,kv_batch,m,n,k,causal,bytes,time_us,accumulate\n\
                gemm,,bf16,2,,64,128,256,,,12.5,1\nattention,backward,fp16,32,8,512,512,64,1,,30,\nnorm,,fp32,,,,,,,4096,2,\n";
    let first = read(Kind::Operators, text.as_bytes(), &named("o.csv")).unwrap();
    let again =
        read(Kind::Operators, operators_to_csv(&first.operators).as_bytes(), &named("o.csv")).unwrap();
    assert_eq!(first, again);
    assert_eq!(first.operators.len(), 3);
}

#[test]
fn bad_files_say_where() {
    for (kind, file, text, part) in [
        (Kind::Sailor, "x", "{", "line 1"),
        (Kind::Sailor, "x", "[]", "not of this kind"),
        (Kind::Sailor, "x", r#"{"0": {"1": {"0": [1, 1, 1]}}}"#, "a micro-batch"),
        (Kind::Sailor, "x", r#"{"1": {"1": {"0": [-1, 1, 1]}}}"#, "1.1.0"),
        (Kind::Sailor, "x", "{}", "no measurement"),
        (Kind::Varuna, "x.json", r#"{"1": {"2": {"forward": 1, "backward": 1}}}"#, "tensor-parallel"),
        (
            Kind::Metis,
            "tp1.json",
            r#"{"execution_time": {"layer_compute_total_ms": [1]}}"#,
            "tensor-parallel",
        ),
        (Kind::Amp, "a_1.npy", "nothing", "NumPy"),
        (Kind::Vidur, "x", "a,b\n1,2\n", "no column"),
        (Kind::LlmServingSim, "x", "layer,tokens,time_us\n", "sizes"),
        (Kind::Operators, "x", "operator,format,time_us\ngemm,bf16,1\n", "`m` is empty"),
        (Kind::Operators, "x", "operator,format,time_us\ngem,bf16,1\n", "expected gemm"),
        (Kind::Operators, "x", "operator,format,bytes,time_us\nadd,bf16,NaN,1\n", "`bytes` is NaN"),
        (Kind::Operators, "x", "operator,format,bytes,time_us\nadd,int7,5,1\n", "int7"),
        (Kind::Operators, "x", "operator,format,bytes,time_us\nadd,bf16,5,inf\n", "a time of inf"),
        (Kind::Layers, "x", "", "line 1"),
    ] {
        let text_of = read(kind, text.as_bytes(), &named(file)).unwrap_err().to_string();
        assert!(text_of.contains(part), "{kind:?} {text}: {text_of}");
    }
    assert!(read(Kind::Sailor, &[0xff, 0xfe], &named("x")).is_err());
}

/// The profiler's tiny set on a CPU, where PyTorch is installed: what it writes reads, and a second run adds nothing.
#[test]
fn the_profilers_files_read() {
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/profile_gpu.py");
    let python = std::env::var("TIDEPLAN_PYTHON").unwrap_or_else(|_| "python3".into());
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new(&python).args(arguments).output();
        output.is_ok_and(|o| o.status.success())
    };
    if !script.exists() || !run(&["-c", "import torch"]) {
        println!("skipped: no profiler, or no PyTorch (TIDEPLAN_PYTHON names another Python)");
        return;
    }
    let folder = std::env::temp_dir().join(format!("tideplan-profile-{}", std::process::id()));
    let (script, out) = (script.display().to_string(), folder.display().to_string());
    let profile = [script.as_str(), "--out", &out, "--device", "cpu", "--tiny", "--quiet"];
    assert!(run(&profile));
    let text = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap();
    let (operators, layers) = (text("operators.csv"), text("layers.csv"));
    assert!(run(&profile));
    assert_eq!((text("operators.csv"), text("layers.csv")), (operators.clone(), layers.clone()));
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(operators.lines().nth(1) == Some(OPERATOR_COLUMNS));
    assert!(
        read(Kind::Operators, operators.as_bytes(), &named("operators.csv")).unwrap().operators.len() > 40
    );
    assert_eq!(read(Kind::Layers, layers.as_bytes(), &named("layers.csv")).unwrap().layers.len(), 4);
}

mod any_bytes {
    use super::*;
    use proptest::prelude::*;

    fn kinds() -> impl Strategy<Value = Kind> {
        prop::sample::select(Kind::ALL.map(|(_, kind)| kind).to_vec())
    }

    proptest! {
        #[test]
        fn are_an_error_or_a_profile(kind in kinds(), bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(kind, &bytes, &named("x_tp2_bs4.json"));
        }

        /// A good file with one piece of it replaced.
        #[test]
        fn nearly_right_are_too(at in 0usize..200, piece in "[-0-9eE.,:{}\\[\\]\"naif ]{0,6}") {
            for (kind, text) in [
                (Kind::Sailor, r#"{"2": {"4": {"0": [0.001, 0.0, 0.002], "1": [0.003, 0.006, 0.002]}}}"#),
                (Kind::Metis, r#"{"execution_time": {"layer_compute_total_ms": [0.5, 29.5]}}"#),
                (Kind::Galvatron, r#"{"layernum[2]_bsz1_seq2048": 15.0, "layernum[4]_bsz1_seq2048": 24.0}"#),
                (Kind::Operators, "operator,format,batch,m,n,k,bytes,time_us\ngemm,bf16,2,64,128,256,,12.5\nnorm,fp32,,,,,4096,2\n"),
            ] {
                let at = at % text.len();
                let end = (at + piece.len()).min(text.len());
                let _ = read(kind, format!("{}{piece}{}", &text[..at], &text[end..]).as_bytes(), &named("x_tp2_bs4.json"));
            }
        }
    }
}
