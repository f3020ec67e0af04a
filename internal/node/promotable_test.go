package node

import (
	"fmt"
	"slices"
	"testing"
)

// At any time, at any node, the status says who may be promoted without loss: while all is well, while the active is gone, and not those who miss something (R5).
func TestPromotable(t *testing.T) {
	t.Parallel()
	c := three(t, func(_ string, o *Options) { onRaft(o) })
	says := func(asked string, want ...string) {
		t.Helper()
		until(t, func() error {
			got := c.nodes[asked].Status(t.Context(), false).AtRisk.Promotable
			if !slices.Equal(slices.Sorted(slices.Values(got)), want) {
				return fmt.Errorf("%s says %v, want %v: %s", asked, got, want, c)
			}
			return nil
		})
	}
	c.nodes["a"].mustSet("acked")
	c.settled("a")
	says("b", "b", "c") // with both members there, R5 holds whichever of them has the write
	c.stop("a")
	says("b", "b", "c") // the active is gone: the two of them are |V| - k + 1
	says("c", "b", "c")
	c.stop("c")
	says("b") // b alone cannot know what c acked; nor would the token store answer
	c.start("a", "c")
	c.promote("a")
	c.settled("a")
	c.stop("b")
	says("a") // c alone could not show that it has all that b acked
}
