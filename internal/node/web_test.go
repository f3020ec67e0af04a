package node

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/internal/admin"
)

// single runs a node without peers on a file system in memory until the test ends, and returns it once it is active.
func single(t *testing.T, fs vfs.FS) *Node {
	t.Helper()
	n, err := Open(Options{Cluster: "shop", Name: "a", Dir: "data", FS: fs, SegmentBytes: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	for deadline := time.Now().Add(20 * time.Second); !n.group.active(); {
		if time.Now().After(deadline) {
			t.Fatalf("a node without peers does not take over: %+v", n.Status(ctx, true))
		}
		<-time.After(time.Millisecond)
	}
	return n
}

// What is served over TCP tells, and changes nothing.
func TestWeb(t *testing.T) {
	n := single(t, vfs.NewMem())
	h := n.Web()
	get := func(method, path string) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
		return w.Code, w.Body.String()
	}
	code, text := get("GET", "/metrics")
	for _, want := range []string{
		`repld_role{cluster="shop",node="a",role="active"} 1`, `repld_role{cluster="shop",node="a",role="standby"} 0`,
		`repld_epoch{cluster="shop",node="a"} 1`, `repld_degraded{cluster="shop",node="a"} 0`, `repld_log_syncs_total{cluster="shop",node="a"}`,
	} {
		if code != 200 || !strings.Contains(text, want) {
			t.Errorf("metrics (%d) have no %s:\n%s", code, want, text)
		}
	}
	for path, want := range map[string]int{"/livez": 200, "/readyz": 200, "/active": 200, "/standby": 503} {
		if code, _ := get("GET", path); code != want {
			t.Errorf("%s answers %d, want %d", path, code, want)
		}
	}
	for _, path := range []string{admin.PathPromote, admin.PathDemote, admin.PathSwitchover, admin.PathStatus} {
		if code, _ := get("POST", path); code != 404 {
			t.Errorf("%s is served over TCP: %d", path, code)
		}
	}
}

// The identity file survives damage of one copy, and a directory of another node is refused (FAULTS D11, H3).
func TestIdentity(t *testing.T) {
	fs := vfs.NewMem()
	if err := fs.MkdirAll("d", 0o700); err != nil {
		t.Fatal(err)
	}
	id, fresh, err := openIdentity(fs, "d", "shop", "a", time.Unix(1, 0))
	if err != nil || !fresh {
		t.Fatalf("fresh %t, %v", fresh, err)
	}
	if err := writeIdentity(fs, "d", id); err != nil {
		t.Fatal(err)
	}
	raw, err := encodeIdentity(id)
	if err != nil {
		t.Fatal(err)
	}
	for at := range raw {
		bad := append([]byte(nil), raw...)
		bad[at] ^= 0x10
		if got, err := decodeIdentity(bad); err != nil || got != id {
			t.Fatalf("byte %d damaged: %+v, %v", at, got, err)
		}
	}
	if _, _, err := openIdentity(fs, "d", "shop", "b", time.Unix(2, 0)); err == nil || !strings.Contains(err.Error(), `node "a" of cluster "shop"`) {
		t.Fatalf("directory of another node: %v", err)
	}
	again, fresh, err := openIdentity(fs, "d", "shop", "a", time.Unix(3, 0))
	if err != nil || fresh || again != id {
		t.Fatalf("opened again: %+v, fresh %t, %v", again, fresh, err)
	}
}

// FuzzIdentity: whatever the bytes are, they are refused or taken whole.
func FuzzIdentity(f *testing.F) {
	raw, err := encodeIdentity(identity{Format: 1, Cluster: "c", Node: "n", Incarnation: strings.Repeat("0f", 16)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, b []byte) {
		if id, err := decodeIdentity(b); err == nil {
			id.incarnation() // panics if it was not validated
		}
	})
}
