package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/redis/go-redis/v9"

	"repld/internal/admin"
	"repld/internal/kv"
	"repld/wal"
)

const (
	valueBytes = 1000
	perBatch   = 250
)

type bench struct {
	bin, dir string
	mib      int
	sampled  int
	seed     uint64
	socks    string
	node     *exec.Cmd
	admin    *admin.Client
	redis    *redis.Client
	rnd      *rand.Rand
}

func (b *bench) keys() int { return b.mib << 20 / valueBytes }

func (b *bench) say(format string, args ...any) { fmt.Printf(format+"\n", args...) }

func (b *bench) run(ctx context.Context) (r result, err error) {
	b.rnd = rand.New(rand.NewPCG(b.seed, 1))
	if err := b.start(ctx); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, b.stop()) }()
	if _, err := b.admin.Backup(ctx, admin.BackupRequest{Note: "empty"}, nil); err != nil {
		return r, err
	}
	b.say("loading %d keys of %d bytes", b.keys(), valueBytes)
	if err := b.write(ctx, b.keys(), func(i int) int { return i }); err != nil {
		return r, err
	}
	st, err := b.settled(ctx)
	if err != nil {
		return r, err
	}
	loaded := st.Applied.LSN
	full, above, err := b.backup(ctx)
	if err != nil {
		return r, err
	}
	r.full, r.backup = full.Sent, above
	b.say("full backup: %d files, %d bytes", full.Files, full.Sent)
	if err := b.write(ctx, b.keys()/100, func(int) int { return b.rnd.IntN(b.keys()) }); err != nil {
		return r, err
	}
	if st, err = b.settled(ctx); err != nil {
		return r, err
	}
	next, above, err := b.backup(ctx)
	if err != nil {
		return r, err
	}
	r.increment, r.backup = next.Sent, max(r.backup, above)
	b.say("after 1 %% of the keys were written again: %d bytes sent", next.Sent)
	if r.compare, err = b.compare(ctx); err != nil {
		return r, err
	}
	if err := b.archived(ctx, st.Committed); err != nil {
		return r, err
	}
	if err := b.stop(); err != nil {
		return r, err
	}
	if r.check, _, err = b.ctl(ctx, "backup", "check", "--from", b.url(), "--of", "bench"); err != nil {
		return r, err
	}
	if r.flips, r.found, err = b.flips(ctx); err != nil {
		return r, err
	}
	if r.verifyPeak, _, err = b.ctl(ctx, "verify", filepath.Join(b.dir, "data")); err != nil {
		return r, err
	}
	return r, b.replays(ctx, &r, loaded-1) // just before the full backup: only the empty one lies before that
}

// replays restores the load from the log alone, and replays the same log from the node's own disk.
func (b *bench) replays(ctx context.Context, r *result, loaded wal.LSN) error {
	peak, out, err := b.ctl(ctx, "restore", filepath.Join(b.dir, "restored"), "--from", b.url(), "--of", "bench", "--as", "bench-2", "--node", "a", "--to-lsn", strconv.FormatUint(uint64(loaded), 10), "-o", "json")
	if err != nil {
		return err
	}
	var said struct {
		Rate     float64 `json:"rate"`
		Replayed uint64  `json:"replayed"`
		Seconds  float64 `json:"seconds"`
	}
	if err := json.Unmarshal(out, &said); err != nil {
		return err
	}
	r.restore, r.replay, r.whole = peak, said.Rate, float64(said.Replayed)/said.Seconds
	b.say("restore: %d records replayed in %.1f s", said.Replayed, said.Seconds)
	r.raw, err = b.raw(loaded)
	return err
}

// raw is the rate at which a log is replayed from the disk into an empty state, as a node does at its start and in a promotion.
func (b *bench) raw(to wal.LSN) (float64, error) {
	dir := filepath.Join(b.dir, "data", "groups", "default", "wal")
	rep, err := wal.Verify(vfs.Default, dir, wal.VerifyOptions{})
	if err != nil {
		return 0, err
	}
	log, _, err := wal.Open(wal.Options{Dir: dir, Identity: rep.Identity})
	if err != nil {
		return 0, err
	}
	defer log.Close()
	state, err := kv.Open(kv.Options{Dir: filepath.Join(b.dir, "raw"), StallLimit: 2 * time.Minute, OnFatal: func(err error) { panic(err) }})
	if err != nil {
		return 0, err
	}
	defer state.Close()
	rd, err := log.NewReader(0)
	if err != nil {
		return 0, err
	}
	defer rd.Close()
	began := time.Now()
	var frames []*wal.Frame
	size := 0
	for state.Applied().LSN < to {
		f, err := rd.TryNext()
		if err != nil {
			return 0, err
		}
		if f != nil && f.First <= to {
			frames, size = append(frames, f), size+int(f.Raw)
		}
		if f == nil || f.Last() >= to || size >= 4<<20 || len(frames) >= 1024 {
			if err := state.Apply(frames); err != nil {
				return 0, err
			}
			frames, size = frames[:0], 0
		}
		if f == nil {
			break
		}
	}
	return float64(state.Applied().LSN) / time.Since(began).Seconds(), nil
}

func (b *bench) url() string { return "file://" + filepath.Join(b.dir, "archive") }

func (b *bench) start(ctx context.Context) (err error) {
	if b.socks, err = os.MkdirTemp("", "bc"); err != nil { // a socket's path is short
		return err
	}
	config := filepath.Join(b.dir, "a.yml")
	text := fmt.Sprintf("cluster: bench\nnode: a\ndata: %s\nclient: {socket: %s/c}\nadmin: {socket: %s/a}\nwal: {retain: 1TiB}\narchive: {url: %q, interval: 1s}\ncheckpoints: {every: 0s}\nscrub: {every: 1000h}\n",
		filepath.Join(b.dir, "data"), b.socks, b.socks, b.url())
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(b.dir, "a.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	b.node = exec.Command(filepath.Join(b.bin, "repld"), "--config", config)
	b.node.Stdout, b.node.Stderr = log, log
	b.node.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := b.node.Start(); err != nil {
		return err
	}
	b.admin = admin.NewClient(filepath.Join(b.socks, "a"))
	b.redis = redis.NewClient(&redis.Options{Network: "unix", Addr: filepath.Join(b.socks, "c"), PoolSize: 1, DisableIdentity: true, ReadTimeout: time.Minute, WriteTimeout: time.Minute})
	return until(ctx, "the node serves", func() error { return b.redis.Set(ctx, "probe", "1", 0).Err() })
}

func (b *bench) stop() error {
	if b.node == nil {
		return nil
	}
	b.admin.Close()
	_ = b.redis.Close()
	err := b.node.Process.Signal(syscall.SIGTERM)
	err = errors.Join(err, b.node.Wait(), os.RemoveAll(b.socks))
	b.node = nil
	return err
}

// write writes n keys with values that do not shrink.
func (b *bench) write(ctx context.Context, n int, key func(i int) int) error {
	value := make([]byte, valueBytes)
	for i := 0; i < n; {
		p := b.redis.Pipeline()
		for end := min(n, i+perBatch); i < end; i++ {
			for j := 0; j+8 <= len(value); j += 8 {
				u := b.rnd.Uint64()
				for k := range 8 {
					value[j+k] = byte(u >> (8 * k))
				}
			}
			p.Set(ctx, fmt.Sprintf("key:%09d", key(i)), string(value), 0)
		}
		if _, err := p.Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}

// settled waits until compactions have come to rest: the state's size does not change for a while.
func (b *bench) settled(ctx context.Context) (st admin.NodeStatus, err error) {
	const rest = 8 // looks, 500 ms apart; the node measures every 5 s
	same := 0
	var size int64
	t := time.NewTicker(500 * time.Millisecond)
	defer t.Stop()
	for same < rest {
		select {
		case <-t.C:
		case <-ctx.Done():
			return st, ctx.Err()
		}
		all, err := b.admin.Status(ctx, true)
		if err != nil {
			return st, err
		}
		st = all.Nodes[0]
		if same++; st.StateBytes != size {
			same, size = 0, st.StateBytes
		}
	}
	return st, nil
}

func (b *bench) archived(ctx context.Context, to wal.LSN) error {
	return until(ctx, "the log is archived", func() error {
		all, err := b.admin.Status(ctx, true)
		if err != nil {
			return err
		}
		if a := all.Nodes[0].Archive; a == nil || a.Archived.LSN < to {
			return fmt.Errorf("%+v, want LSN %d", a, to)
		}
		return nil
	})
}

// backup makes a backup and measures the node's memory.
func (b *bench) backup(ctx context.Context) (r admin.BackupResult, above int64, err error) {
	above, err = b.above(func() error {
		r, err = b.admin.Backup(ctx, admin.BackupRequest{}, nil)
		return err
	})
	return r, above, err
}

// above measures by how much the node's memory rises, while it does something, above what it is before.
func (b *bench) above(do func() error) (int64, error) {
	before, err := memory(b.node.Process.Pid, "VmRSS")
	if err != nil {
		return 0, err
	}
	reset := fmt.Sprintf("/proc/%d/clear_refs", b.node.Process.Pid)
	if err := os.WriteFile(reset, []byte("5"), 0); err != nil {
		return 0, fmt.Errorf("begin to measure the peak: %w", err)
	}
	if err := do(); err != nil {
		return 0, err
	}
	peak, err := memory(b.node.Process.Pid, "VmHWM")
	return peak - before, err
}

// compare has the running node digest all of its state, as replctl verify does on each node. The first pass fills the node's cache up to state.cache, which is the node's own; the second is measured.
func (b *bench) compare(ctx context.Context) (int64, error) {
	pass := func() error {
		v, err := b.admin.Verify(ctx, admin.VerifyRequest{WaitSeconds: time.Hour.Seconds()}, nil)
		if err == nil && !v.OK {
			err = fmt.Errorf("verify: %v", v.Notes)
		}
		if err == nil {
			b.say("verify of the running node: %d rows of %d bytes", v.Nodes[0].Rows, v.Nodes[0].Bytes)
		}
		return err
	}
	if err := pass(); err != nil {
		return 0, err
	}
	return b.above(pass)
}

// memory reads a line of a process's status, in bytes.
func memory(pid int, name string) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("process %d has no %s", pid, name)
}

// ctl runs replctl and returns its peak of memory and what it printed.
func (b *bench) ctl(ctx context.Context, args ...string) (peak int64, out []byte, err error) {
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(b.bin, "replctl"), args...)
	cmd.Stderr = &said
	out, err = cmd.Output()
	if err != nil {
		return 0, out, fmt.Errorf("replctl %s: %w: %s%s", args[0], err, said.String(), out)
	}
	return cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10, out, nil
}

func until(ctx context.Context, what string, ok func() error) error {
	t := time.NewTicker(50 * time.Millisecond)
	defer t.Stop()
	for end := time.Now().Add(2 * time.Minute); ; {
		err := ok()
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s: %w", what, err)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
