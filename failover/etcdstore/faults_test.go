package etcdstore

import (
	"net/url"
	"sync"
	"testing"

	"repld/failover"
	"repld/failover/tokentest"
	"repld/tools/faultproxy"
)

// world is a real etcd that each store reaches through a proxy of its own.
type world struct {
	t       *testing.T
	server  *server
	proxies []*faultproxy.Proxy

	mu     sync.Mutex
	stores []*Store
	cuts   int
}

// TestFaults runs the conformance suite's faults: a store's connections to etcd held up or refused, etcd killed and started again.
func TestFaults(t *testing.T) {
	s := startEtcd(t)
	tokentest.RunFaults(t, func(t *testing.T, n int) tokentest.World {
		at, err := url.Parse(s.url)
		if err != nil {
			t.Fatal(err)
		}
		w := &world{t: t, server: s}
		for i := range n {
			p, err := faultproxy.New("127.0.0.1:0", at.Host, uint64(i))
			if err != nil {
				t.Fatal(err)
			}
			w.proxies = append(w.proxies, p)
		}
		w.open()
		t.Cleanup(func() {
			w.close()
			for _, p := range w.proxies {
				_ = p.Close() // the connections are gone already
			}
		})
		return w
	})
}

func (w *world) open() {
	var all []*Store
	for _, p := range w.proxies {
		st, err := Open(Options{Endpoints: []string{"http://" + p.Addr()}, Key: "/faults/" + w.t.Name()})
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, st)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stores = all
}

func (w *world) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, st := range w.stores {
		if err := st.Close(); err != nil {
			w.t.Error(err)
		}
	}
}

func (w *world) Store(i int) failover.Store {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stores[i]
}

// Cut holds connections up silently, or refuses them, in turn.
func (w *world) Cut(i int) {
	w.mu.Lock()
	w.cuts++
	silent := w.cuts%2 == 1
	w.mu.Unlock()
	if silent {
		w.proxies[i].Set(faultproxy.Rule{Hold: true}, faultproxy.Rule{Hold: true})
	} else {
		w.proxies[i].Refuse(true)
	}
}

func (w *world) Heal() {
	for _, p := range w.proxies {
		p.Heal()
	}
}

func (w *world) Crash() {
	w.server.kill()
	w.close()
	w.server.start()
	w.open()
}
