package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// natsStream keeps the newest value of each subject on three servers, as a key-value bucket of NATS does.
const natsStream = "bench"

// startNats starts three servers whose streams are fsynced before they answer.
func startNats(ctx context.Context, o options, dir string) (*running, error) {
	run := &running{}
	ports, err := freePorts(6)
	if err != nil {
		return run, err
	}
	var routes []string
	for i := range 3 {
		routes = append(routes, fmt.Sprintf("\"nats://127.0.0.1:%d\"", ports[3+i]))
	}
	for i := range 3 {
		name := fmt.Sprintf("n%d", i)
		config := filepath.Join(dir, name+".conf")
		text := fmt.Sprintf("server_name: %s\nlisten: \"127.0.0.1:%d\"\njetstream { store_dir: %q, sync_interval: always }\ncluster { name: bench, listen: \"127.0.0.1:%d\", routes: [%s] }\n",
			name, ports[i], filepath.Join(dir, name), ports[3+i], strings.Join(routes, ", "))
		if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
			return run, err
		}
		p, err := start("nats "+name, filepath.Join(o.dir, name+".log"), o.program("nats-server"), "-c", config)
		if err != nil {
			return run, err
		}
		run.all = append(run.all, p)
	}
	url := fmt.Sprintf("nats://127.0.0.1:%d", ports[0])
	var last error
	err = poll(ctx, run, func(ctx context.Context) bool {
		last = makeStream(ctx, url)
		return last == nil
	})
	if err != nil {
		return run, fmt.Errorf("%w: %w", err, last)
	}
	run.open = func(_ context.Context, _ row, w *work) (caller, error) { return dialNats(url, w) }
	run.fill = func(ctx context.Context, o options) error { return fillNats(ctx, url, o) }
	return run, nil
}

func connectNats(url string) (*nats.Conn, jetstream.JetStream, error) {
	c, err := nats.Connect(url, nats.Timeout(2*time.Second))
	if err != nil {
		return nil, nil, err
	}
	js, err := jetstream.New(c, jetstream.WithPublishAsyncMaxPending(1024))
	if err != nil {
		c.Close()
	}
	return c, js, err
}

func makeStream(ctx context.Context, url string) error {
	c, js, err := connectNats(url)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err = js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: natsStream, Subjects: []string{"kv.*"}, Replicas: 3, MaxMsgsPerSubject: 1, Storage: jetstream.FileStorage})
	return err
}

// natsCaller is one client with a connection of its own.
type natsCaller struct {
	c   *nats.Conn
	js  jetstream.JetStream
	w   *work
	end time.Time
}

func dialNats(url string, w *work) (caller, error) {
	c, js, err := connectNats(url)
	if err != nil {
		return nil, err
	}
	return &natsCaller{c: c, js: js, w: w}, nil
}

func (n *natsCaller) bound(t time.Time) error { n.end = t; return nil }
func (n *natsCaller) close()                  { n.c.Close() }

func (n *natsCaller) call(ctx context.Context, count int) error {
	ctx, cancel := context.WithDeadline(ctx, n.end)
	defer cancel()
	for range count {
		n.w.next()
		if _, err := n.js.Publish(ctx, "kv."+string(n.w.key), n.w.value); err != nil {
			return err
		}
	}
	return nil
}

func fillNats(ctx context.Context, url string, o options) error {
	c, js, err := connectNats(url)
	if err != nil {
		return err
	}
	defer c.Close()
	w := newWork(1e6, o.keys, o.value)
	for n := range o.keys {
		w.setKey(n)
		w.setValue()
		if _, err := js.PublishAsync("kv."+string(w.key), append([]byte(nil), w.value...), jetstream.WithStallWait(30*time.Second)); err != nil {
			return err
		}
	}
	select {
	case <-js.PublishAsyncComplete():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Minute):
		return fmt.Errorf("%d keys were not acknowledged within a minute", js.PublishAsyncPending())
	}
}
