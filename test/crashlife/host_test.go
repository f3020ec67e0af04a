package crashlife

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/internal/admin"
	"repld/internal/node"
)

// patience is how long something that must happen may take.
const patience = 30 * time.Second

// host is a node with its disk and its place in the network.
type host struct {
	name    string
	fs      vfs.FS
	peers   []string // names of the others
	k       int      // sync k
	net     *pipes
	node    *node.Node
	cancel  context.CancelFunc
	ended   chan struct{} // closed once Run returned
	result  error         // of Run
	clients *pipes
	client  *client
}

func (h *host) options() node.Options {
	o := node.Options{
		Cluster: "shop", Name: h.name, Dir: "data", FS: h.fs, StandbyReads: true, Sync: node.SyncOptions{K: h.k},
		SegmentBytes: 16 << 10, LogBudget: 48 << 10, MemTableBytes: 64 << 10, CacheBytes: 1 << 20,
		StallLimit: time.Second, Trim: 10 * time.Millisecond, Gossip: 20 * time.Millisecond, Heartbeat: 20 * time.Millisecond,
	}
	if os.Getenv("CRASHLIFE_LOG") != "" {
		o.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	for _, p := range h.peers {
		o.Peers = append(o.Peers, node.Peer{Name: p, Addr: p})
	}
	if len(h.peers) > 0 {
		o.Listen = func() (net.Listener, error) { return h.net.listen(h.name), nil }
		o.Dial = func(_ context.Context, addr string) (net.Conn, error) { return h.net.dial(addr) }
	}
	return o
}

// open opens the node without running it.
func (h *host) open() (err error) {
	h.node, err = node.Open(h.options())
	return err
}

// run runs the opened node and connects a client to it.
func (h *host) run() error {
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel, h.ended = cancel, make(chan struct{})
	n := h.node
	go func() {
		h.result = n.Run(ctx)
		close(h.ended)
	}()
	<-n.Ready()
	h.clients = newPipes()
	l := h.clients.listen("service")
	go func() { _ = n.ServeClients(l, false) }()
	return h.connect()
}

// connect gives the host a new client.
func (h *host) connect() error {
	conn, err := h.clients.dial("service")
	if err != nil {
		return err
	}
	h.client = newClient(conn)
	return nil
}

// reconnect gives the client up for a new one.
func (h *host) reconnect() error {
	_ = h.client.conn.Close()
	return h.connect()
}

func (h *host) start() error {
	if err := h.open(); err != nil {
		return err
	}
	return h.run()
}

// stop ends the node in order.
func (h *host) stop() error {
	if h.cancel == nil {
		return nil
	}
	h.cancel()
	h.cancel = nil
	if h.client != nil {
		_ = h.client.conn.Close()
	}
	<-h.ended
	return h.result
}

func (h *host) status() admin.NodeStatus {
	return h.node.Status(context.Background(), true).Nodes[0]
}

// active waits until the node is the active.
func (h *host) active() error {
	return h.until(func() error {
		if s := h.status(); s.Role != admin.RoleActive {
			if slices.ContainsFunc(s.Alarms, func(a string) bool { return strings.Contains(a, "could not take over") }) {
				return fmt.Errorf("%w: node %s is %s in epoch %d: %v", errFinal, h.name, s.Role, s.Epoch, s.Alarms)
			}
			return fmt.Errorf("node %s is %s in epoch %d: %v", h.name, s.Role, s.Epoch, s.Alarms)
		}
		_, err := h.client.do("DEL", "no such key") // a write: the role is told a moment before writes are taken
		return err
	})
}

// all reads every key.
func (h *host) all() ([]string, error) {
	args := []string{"MGET"}
	for i := range keys {
		args = append(args, keyName(i))
	}
	return h.client.do(args...)
}

func (h *host) promote(req admin.PromoteRequest) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := h.node.Promote(ctx, req)
	return err
}

// post asks the node's admin API.
func (h *host) post(path string, req any) error {
	body, err := json.Marshal(req)
	if err != nil {
		return err
	}
	w := httptest.NewRecorder()
	h.node.Handler().ServeHTTP(w, httptest.NewRequest("POST", path, bytes.NewReader(body)))
	for lines := json.NewDecoder(w.Body); ; {
		var e admin.Event
		if err := lines.Decode(&e); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if e.Error != "" {
			return errors.New(e.Error)
		}
		if e.Done {
			return nil
		}
	}
}

// until waits for the condition, unless the node ends.
func (h *host) until(holds func() error) error {
	return until(func() error {
		select {
		case <-h.ended:
			return nil
		default:
			return holds()
		}
	})
}

// until waits for the condition.
func until(holds func() error) error {
	pause := time.NewTicker(time.Millisecond)
	defer pause.Stop()
	for end := time.Now().Add(patience); ; <-pause.C {
		err := holds()
		if err == nil || time.Now().After(end) || errors.Is(err, errFinal) {
			return err
		}
	}
}

// errFinal: waiting longer changes nothing.
var errFinal = errors.New("final")
