package client

import (
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"
)

// R15: an active of an epoch that is over is not adopted, whatever it says and whether or not it could know better; one of the same epoch or a later one is.
func TestAdoptOnlyTheNewestEpoch(t *testing.T) {
	c := newClient(t, Options{Addrs: []string{"127.0.0.1:1"}}) // nobody is connected to
	c.mu.epoch = 2
	of := func(epoch int64) target {
		return target{addr: "127.0.0.1:1", epoch: epoch, pool: &pool{client: redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})}}
	}
	if _, err := c.adopt(of(1)); !errors.Is(err, ErrNoActive) {
		t.Errorf("epoch 1 after 2: %v", err)
	}
	for _, epoch := range []int64{2, 3} {
		if at, err := c.adopt(of(epoch)); err != nil || at.epoch != epoch || c.Epoch() != epoch {
			t.Errorf("epoch %d: %v, the client is at %d", epoch, err, c.Epoch())
		}
	}
}
