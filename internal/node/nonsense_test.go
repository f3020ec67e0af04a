package node

import (
	"errors"
	"testing"

	"repld/internal/admin"
)

// A promotion to a moment that cannot be meant holds nothing: the standby goes on.
func TestMisspeltMoment(t *testing.T) {
	t.Parallel()
	c := three(t, nil)
	b := c.nodes["b"]
	for _, before := range []string{"FROB x", "DEL", "CLEAR x"} {
		_, err := b.promote(admin.PromoteRequest{Before: before, AcceptCut: true})
		var usage *admin.Error
		if !errors.As(err, &usage) || usage.Code != admin.CodeUsage {
			t.Errorf("%q: %v", before, err)
		}
	}
	if h := b.group.held(); h != nil {
		t.Errorf("b is held: %+v", h)
	}
	c.nodes["a"].mustSet("on")
	c.settled("a")
}
