package main

import (
	"flag"
	"fmt"
	"path/filepath"
	"strings"
)

// options are the flags.
type options struct {
	bin, dir string
	seconds  float64
	rounds   int
	clients  []int
	rows     []row
	systems  []string
	keys     int
	value    int
	piece    string
	json     string
	plot     string
	rates    []float64
	keep     bool

	parts      bool
	catchup    bool
	overload   bool
	sweep      string
	verify     bool
	verifyRate string
	report     bool
	files      []string // of -report
}

func parse() (options, error) {
	var o options
	var clients, rows, systems, rates string
	var quick, few bool
	flag.StringVar(&o.bin, "bin", "bin", "folder with repld, and with others that are preferred to those in the PATH")
	flag.StringVar(&o.dir, "dir", ".bench", "folder to work in, on the disk to measure; removed before and after")
	flag.Float64Var(&o.seconds, "seconds", 5, "length of each measurement")
	flag.IntVar(&o.rounds, "rounds", 3, "rounds; medians are shown")
	flag.StringVar(&clients, "clients", "1,16,64,256", "numbers of clients")
	flag.StringVar(&rows, "rows", "", "what to measure, as set:64,set:64x16,set:64:1024,get:64 (clients, x pipeline, : bytes of a value); default: SET and GET with -clients, 64x16, 1 KiB")
	flag.StringVar(&systems, "systems", "repld,redis,repld1,redis1,bound", "who is measured: repld, repld1 (with a standby), repldw (and a witness), redis, redis1 (with a replica), bound, etcd, postgres, nats")
	flag.IntVar(&o.keys, "keys", 1_000_000, "different keys, all written before the measurement")
	flag.IntVar(&o.value, "value", 100, "bytes of a value; half of it compresses")
	flag.BoolVar(&quick, "quick", false, "one round of 1 s with 100,000 keys, for a glance")
	flag.BoolVar(&few, "few", false, "without the rows of pipelines and larger values")
	flag.StringVar(&o.piece, "piece", "", "name of this piece of the whole, in the JSON and the report")
	flag.StringVar(&o.json, "json", "", "also write the results to this `file`, - for standard output")
	flag.StringVar(&rates, "rate", "", "open loop: requests a second, one or several as 5000,20000, that arrive whatever the server does, over as many connections as the last of -clients")
	flag.StringVar(&o.plot, "plot", "", "with -rate: also draw throughput against latency to this SVG `file`")
	flag.BoolVar(&o.parts, "parts", false, "measure only the parts of repld: log append, replay")
	flag.BoolVar(&o.catchup, "catchup", false, "measure how a standby comes back: from the log with idle and with busy clients, by a snapshot; beside what disk and state allow")
	flag.BoolVar(&o.overload, "overload", false, "offer twice the capacity to the first of -systems, over as many connections as the last of -clients, for -seconds, between two times of half of it")
	flag.StringVar(&o.sweep, "sweep", "", "how cost grows with one thing: clients (1 to 1,024), value (16 B to 1 MiB), keys (10,000 to -keys), standbys (0 to 4)")
	flag.BoolVar(&o.keep, "keep", false, "leave the folder for a look")
	flag.BoolVar(&o.verify, "verify", false, "measure only what comparing all copies (replctl verify) costs the clients of an active with one synchronous standby")
	flag.StringVar(&o.verifyRate, "verify-rate", "0", "with -verify: bytes a second that each node reads for it; 0: as replctl verify does, as fast as clients let it")
	flag.BoolVar(&o.report, "report", false, "print the results of the JSON files that are the arguments as Markdown")
	flag.Parse()
	if o.files = flag.Args(); o.report != (len(o.files) > 0) {
		return o, fmt.Errorf("files are arguments of -report, and it needs some: %q", o.files)
	}
	if quick {
		o.seconds, o.rounds, o.keys = 1, 1, 100_000
	}
	if o.rounds < 1 || o.seconds <= 0 || o.keys < 1 || o.keys > 1e12 || o.value < 16 {
		return o, fmt.Errorf("see -help: rounds, seconds, keys and value (at least 16) have to be positive")
	}
	var err error
	for _, s := range strings.Split(clients, ",") {
		n, err := positive(s)
		if err != nil {
			return o, fmt.Errorf("-clients: %w", err)
		}
		o.clients = append(o.clients, n)
	}
	for s := range strings.SplitSeq(rates, ",") {
		if rates == "" {
			break
		}
		n, err := positive(s)
		if err != nil {
			return o, fmt.Errorf("-rate: %w", err)
		}
		o.rates = append(o.rates, float64(n))
	}
	o.systems = strings.Split(systems, ",")
	o.rows = usualRows(o.clients, o.value, !few)
	if rows != "" {
		if o.rows, err = parseRows(rows, o.value); err != nil {
			return o, err
		}
	}
	if o.dir, err = filepath.Abs(o.dir); err != nil {
		return o, err
	}
	o.bin, err = filepath.Abs(o.bin)
	return o, err
}
