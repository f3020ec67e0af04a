package clients

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"repld/test/cluster"
)

// counter is what one client has seen of the counter that it increments, one increment after the other.
type counter struct {
	mu     sync.Mutex
	acked  int64 // increments that were answered
	last   int64 // the newest answer
	wrong  string
	errors map[string]int
}

func (c *counter) ok(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.acked++
	if n <= c.last {
		c.wrong = fmt.Sprintf("answered %d after %d: an increment is lost", n, c.last)
	}
	c.last = n
}

func (c *counter) failed(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.errors == nil {
		c.errors = map[string]int{}
	}
	c.errors[text[:min(len(text), 80)]]++
}

func (c *counter) state() (acked int64, wrong string, errs map[string]int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[string]int{}
	for k, v := range c.errors {
		all[k] = v
	}
	return c.acked, c.wrong, all
}

// TestFollow holds that unmodified clients of the Redis world follow a switchover and a SIGKILL of the active, with a failover that nobody orders, through the Sentinel API, by themselves:
// each of them goes on after each of the two, and no increment that one of them was told of is missing.
//
// Faults: P1 (SIGKILL of the active under go-redis, redis-py, ioredis and node-redis)
func TestFollow(t *testing.T) {
	clients := map[string]func(t *testing.T, key string, sentinels []string, n *counter) (stop func()){"go-redis": goRedis}
	if argv := python(t); argv != nil {
		clients["redis-py"] = program(argv)
	}
	if dir := npm(t); dir != "" {
		for name, file := range map[string]string{"ioredis": "ioredis.cjs", "node-redis": "noderedis.cjs"} {
			clients[name] = program([]string{"node", filepath.Join(dir, file)})
		}
	}
	c := group(t, cluster.Spec{Automatic: true, Failover: "  backoff: 0s\n"})
	var sentinels []string
	for _, n := range c.Nodes() {
		sentinels = append(sentinels, n.Guide)
	}
	counters := map[string]*counter{}
	var stops []func()
	for name, start := range clients {
		counters[name] = new(counter)
		stops = append(stops, start(t, name, sentinels, counters[name]))
	}
	stopped := false
	stop := func() {
		if !stopped {
			stopped = true
			for _, s := range stops {
				s()
			}
		}
	}
	defer stop()
	const more = 10
	progress := func(after string) {
		t.Helper()
		from := map[string]int64{}
		for name, n := range counters {
			from[name], _, _ = n.state()
		}
		began := time.Now()
		cluster.Until(t, 2*time.Minute, func() error {
			for name, n := range counters {
				acked, _, errs := n.state()
				if acked-from[name] < more {
					return fmt.Errorf("%s does not go on after %s: %d increments, errors %v", name, after, acked-from[name], errs)
				}
			}
			return nil
		})
		t.Logf("after %s all of %d clients went on within %s", after, len(counters), time.Since(began).Round(time.Millisecond))
	}
	progress("the start")
	active, _ := c.WaitActive(0, limit)
	for range rounds() {
		next := c.Others(active.Name)[0]
		switchover(t, active, next)
		progress("a switchover")
		dead, s := c.WaitActive(0, limit) // next, unless the machine is so busy that it was followed by another
		for _, n := range c.Others(dead.Name) {
			n.WaitCaughtUp(dead, limit)
		}
		dead.Kill()
		active, _ = c.WaitActive(s.Epoch, limit, dead.Name)
		progress("a kill and a failover")
		dead.Start()
		dead.WaitCaughtUp(active, limit)
		active, _ = c.WaitActive(s.Epoch, limit)
	}
	stop()
	for name, n := range counters {
		acked, wrong, errs := n.state()
		got, err := active.Redis().Get(context.Background(), name).Int64()
		if err != nil || got < acked {
			t.Errorf("%s was told of %d increments, the counter is %d (%v)", name, acked, got, err)
		}
		if wrong != "" {
			t.Errorf("%s: %s", name, wrong)
		}
		t.Logf("%s: %d increments, errors %v", name, acked, errs)
	}
}

// goRedis is go-redis' FailoverClient with its defaults.
func goRedis(_ *testing.T, key string, sentinels []string, n *counter) func() {
	r := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "test", SentinelAddrs: sentinels})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			v, err := r.Incr(ctx, key).Result()
			if err != nil {
				n.failed(err.Error())
				continue
			}
			n.ok(v)
		}
	}()
	return func() {
		cancel()
		<-done
		_ = r.Close()
	}
}

// program is a client in another language: it prints "ok N" or "err REASON" for each increment, until its standard input ends.
func program(argv []string) func(*testing.T, string, []string, *counter) func() {
	return func(t *testing.T, key string, sentinels []string, n *counter) func() {
		cmd := exec.Command(argv[0], append(append(argv[1:len(argv):len(argv)], "test", key), sentinels...)...)
		cmd.Stderr = os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			read(out, n)
		}()
		return func() {
			_ = in.Close()
			late := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
			defer late.Stop()
			<-done
			_ = cmd.Wait() // what it did is checked by its answers
		}
	}
}

func read(out io.Reader, n *counter) {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		kind, rest, _ := strings.Cut(lines.Text(), " ")
		v, err := strconv.ParseInt(rest, 10, 64)
		switch {
		case kind == "ok" && err == nil:
			n.ok(v)
		case kind == "err":
			n.failed(rest)
		}
	}
}

// missing skips a client that is not installed, with the reason; in CI it has to be there.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
	}
	t.Logf("left out: "+format, args...)
}

// python is how redis-py's program is started, nil without Debian's python3-redis.
func python(t *testing.T) []string {
	const interpreter = "/usr/bin/python3"
	if out, err := exec.Command(interpreter, "-c", "import redis; print(redis.__version__)").CombinedOutput(); err != nil {
		missing(t, "redis-py: %v: %s", err, out)
		return nil
	}
	return []string{interpreter, filepath.Join("py", "redispy.py")}
}

// npm installs the JavaScript clients, in the versions that js/package-lock.json pins, into a folder of their own.
func npm(t *testing.T) string {
	if _, err := exec.LookPath("npm"); err != nil {
		missing(t, "ioredis and node-redis: no npm")
		return ""
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("js")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		missing(t, "ioredis and node-redis: npm ci: %v\n%s", err, out)
		return ""
	}
	return dir
}
