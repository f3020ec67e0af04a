// Command wals measures log libraries beside each other in one run: 128-byte records, each durable before its caller goes on. `make bench-wals` runs it.
//
// repld's wal and Pebble's own commit take many callers. The others take one: there a goroutine gathers what callers bring while the last batch is written, and writes it as one, which is the best that
// can be done with them. Each library has its defaults; each sync is a real one.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// library is one log. append returns when the record is durable, and is called by many goroutines.
type library struct {
	name string
	open func(dir string) (append func(payload []byte) error, close func() error, err error)
}

var libraries = []library{
	{"repld/wal", openRepld},
	{"hashicorp/raft-wal", openRaftWAL},
	{"tidwall/wal", openTidwall},
	{"etcd wal", openEtcd},
	{"Pebble commit, Sync", openPebble},
}

// part is one figure, as in the JSON of bench.
type part struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

func main() {
	dir := flag.String("dir", ".bench", "folder to work in, on the disk to measure; its subfolder wals is removed before and after")
	seconds := flag.Float64("seconds", 3, "length of each measurement")
	rounds := flag.Int("rounds", 3, "rounds, in which all take turns; medians are shown")
	file := flag.String("json", "", "also write the results to this `file`")
	flag.Parse()
	if err := run(filepath.Join(*dir, "wals"), time.Duration(*seconds*float64(time.Second)), *rounds, *file); err != nil {
		fmt.Fprintln(os.Stderr, "wals:", err)
		os.Exit(1)
	}
}

func run(dir string, length time.Duration, rounds int, file string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	callers := []int{1, 64, 256}
	rates := map[string][]float64{}
	key := func(l library, n int) string {
		return fmt.Sprintf("log append, durable, %d callers: %s", n, l.name)
	}
	for round := range rounds {
		for i := range libraries {
			l := libraries[(round+i)%len(libraries)] // who begins changes
			for _, n := range callers {
				rate, err := measure(l, dir, n, length)
				if err != nil {
					return fmt.Errorf("%s: %w", l.name, err)
				}
				rates[key(l, n)] = append(rates[key(l, n)], rate)
			}
		}
	}
	var parts []part
	for _, n := range callers {
		ours, best := 0.0, 0.0
		for i, l := range libraries {
			v := rates[key(l, n)]
			slices.Sort(v)
			m := (v[(len(v)-1)/2] + v[len(v)/2]) / 2
			parts = append(parts, part{key(l, n), m, "records/s"})
			if i == 0 {
				ours = m
			} else {
				best = max(best, m)
			}
		}
		parts = append(parts, part{fmt.Sprintf("log append, durable, %d callers: repld/wal to the best of the others", n), ours / best, "×"})
	}
	for _, p := range parts {
		fmt.Printf("  %-70s %12.2f %s\n", p.Name, p.Value, p.Unit)
	}
	if file == "" {
		return nil
	}
	text, err := json.MarshalIndent(map[string]any{"piece": "wals", "time": time.Now(), "seconds": length.Seconds(), "rounds": rounds, "parts": parts}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

func measure(l library, dir string, callers int, length time.Duration) (float64, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	write, end, err := l.open(filepath.Join(dir, "log"))
	if err != nil {
		return 0, err
	}
	defer end()
	// The first file is made, and the callers' goroutines, before the clock runs.
	if err := write(make([]byte, 128)); err != nil {
		return 0, err
	}
	var done atomic.Int64
	var over atomic.Bool
	errs := make([]error, callers)
	var wg sync.WaitGroup
	start := time.Now()
	for i := range callers {
		wg.Go(func() {
			payload := make([]byte, 128)
			for !over.Load() {
				if errs[i] = write(payload); errs[i] != nil {
					return
				}
				done.Add(1)
			}
		})
	}
	time.Sleep(length)
	rate := float64(done.Load()) / time.Since(start).Seconds()
	over.Store(true)
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return 0, err
		}
	}
	return rate, nil
}
