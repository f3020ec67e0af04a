package node

import (
	"errors"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A data directory is opened by the node and the cluster that it belongs to, once, and nobody else changes it (FAULTS H3).
// Faults: H3, H10 (a directory of another node, opened twice)
func TestForeignDirectory(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	c := newCluster(t, 0, nil, "a")
	c.disks["a"] = fs
	c.start()
	c.nodes["a"].mustSet("mine")
	if _, err := Open(c.options("a")); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("opened twice: %v", err)
	}
	c.stop("a")
	node, other := c.options("a"), c.options("a")
	node.Name, other.Cluster = "b", "bank"
	for _, o := range []Options{node, other} {
		if _, err := Open(o); !errors.Is(err, errIdentity) || !strings.Contains(err.Error(), `belongs to node "a" of cluster "shop"`) {
			t.Fatalf("opened as node %s of cluster %s: %v", o.Name, o.Cluster, err)
		}
	}
	c.start()
	c.nodes["a"].mustSet("still mine")
	if got := c.nodes["a"].get("mine"); got != "mine" {
		t.Fatalf("%q", got)
	}
}
