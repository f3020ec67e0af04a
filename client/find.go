package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// find asks all nodes at the same time and takes the active with the highest epoch. It does not wait for silent nodes once one says that it is active in an
// epoch not below the highest seen: a stale one cannot know that epoch. A node that forwards the commands of this connection will do where the active itself is not reached.
func (c *Client) find(ctx context.Context) (target, error) {
	addrs := slices.Clone(c.o.Addrs)
	errs := []error{ErrNoActive}
	for _, a := range c.named(ctx) {
		if !slices.Contains(addrs, a) {
			addrs = append(addrs, a)
		}
	}
	type answer struct {
		t   target
		err error
	}
	answers := make(chan answer, len(addrs))
	var best target
	for _, addr := range addrs {
		go func() {
			t, err := c.probe(ctx, addr)
			answers <- answer{t, err}
		}()
	}
	settle := time.Duration(0)
	var late <-chan time.Time
	for left := len(addrs); left > 0; {
		select {
		case a := <-answers:
			left--
			if a.err != nil {
				errs = append(errs, a.err)
				continue
			}
			if best.pool != nil && !a.t.better(best) {
				a.t.drop()
				continue
			}
			if best.pool != nil {
				best.drop()
			}
			best = a.t
			if settle == 0 {
				// Another one may say a higher epoch: nodes that are well answer within a moment.
				settle = 20 * time.Millisecond
				late = time.After(settle)
			}
			continue
		case <-late:
		case <-ctx.Done():
		}
		go func(n int) { // those that answer later are not needed
			for range n {
				if a := <-answers; a.err == nil {
					a.t.drop()
				}
			}
		}(left)
		break
	}
	if best.pool == nil {
		return target{}, errors.Join(errs...)
	}
	return c.adopt(best)
}

// probe asks one node whether it is the active.
func (c *Client) probe(ctx context.Context, addr string) (target, error) {
	ctx, cancel := context.WithTimeout(ctx, c.o.Probe)
	defer cancel()
	first, err := c.dial(ctx, network(addr), addr) // here and not by go-redis, which would log each failure to standard error
	if err != nil {
		return target{}, fmt.Errorf("%s: %w", addr, err)
	}
	r := redis.NewClient(c.redisOptions(addr, first))
	reply, err := r.Do(ctx, "REPLD.EPOCH", c.Epoch()).Result()
	if err == nil {
		var t target
		if t, err = parseEpoch(addr, reply); err == nil {
			t.pool = &pool{client: r}
			return t, nil
		}
	}
	return target{}, errors.Join(fmt.Errorf("%s: %w", addr, err), r.Close())
}

func parseEpoch(addr string, reply any) (target, error) {
	m, ok := reply.(map[any]any)
	if !ok {
		return target{}, fmt.Errorf("answer %v to REPLD.EPOCH: is this a repld node?", reply)
	}
	epoch, ok := m["epoch"].(int64)
	role, _ := m["role"].(string)
	forwards, _ := m["forwards"].(bool)
	if !ok || role != "active" && !forwards {
		return target{}, fmt.Errorf("node %v is %v in epoch %v", m["node"], m["role"], m["epoch"])
	}
	return target{addr: addr, epoch: epoch, forwards: role != "active"}, nil
}

// better: a higher epoch, or the active itself instead of a node that forwards to it.
func (t target) better(than target) bool {
	return t.epoch > than.epoch || t.epoch == than.epoch && than.forwards && !t.forwards
}

// redisOptions are those of one node: no retries of its own, and each new connection tells the node the highest epoch that was seen, so that one that is stale
// ends it instead of answering. first is the first connection, which go-redis uses for the first command.
func (c *Client) redisOptions(addr string, first net.Conn) *redis.Options {
	dialed := make(chan net.Conn, 1)
	dialed <- first
	return &redis.Options{
		Network: network(addr), Addr: addr, Username: c.o.User, Password: c.o.Password, Protocol: 3, MaxRetries: -1, PoolSize: c.o.PoolSize, DisableIdentity: true,
		ContextTimeoutEnabled: true, DialTimeout: c.o.Probe, DialerRetries: 1, ReadTimeout: c.o.Attempt, WriteTimeout: c.o.Attempt,
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			select {
			case conn := <-dialed:
				return conn, nil
			default:
				return c.dial(ctx, network, addr)
			}
		},
		OnConnect: func(ctx context.Context, conn *redis.Conn) error {
			if err := conn.Do(ctx, "REPLD.EPOCH", c.Epoch()).Err(); err != nil {
				return fmt.Errorf("%w: %w", errNotSent, err)
			}
			return nil
		},
	}
}

// dial marks errors as being before anything was sent.
func (c *Client) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := c.o.Dial(ctx, network, addr)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotSent, err)
	}
	if network == "unix" {
		return conn, nil
	}
	secured, err := secure(ctx, conn, addr, c.o.TLS)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotSent, err)
	}
	return secured, nil
}

// secure puts TLS on a connection to addr, unless config is nil. It closes the connection when that fails.
func secure(ctx context.Context, conn net.Conn, addr string, config *tls.Config) (net.Conn, error) {
	if config == nil {
		return conn, nil
	}
	config = config.Clone()
	if config.ServerName == "" {
		config.ServerName, _, _ = net.SplitHostPort(addr) // an address without a port was not dialled
	}
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return secured, nil
}

// named asks the Sentinels, all at the same time, whom they name.
func (c *Client) named(ctx context.Context) []string {
	var (
		all   sync.WaitGroup
		mu    sync.Mutex
		addrs []string
	)
	ctx, cancel := context.WithTimeout(ctx, c.o.Probe)
	defer cancel()
	for _, s := range c.o.Sentinels {
		all.Go(func() {
			conn, err := c.o.Dial(ctx, "tcp", s) // here and not by go-redis, which would log each failure
			if err == nil {
				conn, err = secure(ctx, conn, s, c.o.SentinelTLS)
			}
			if err != nil {
				return
			}
			defer conn.Close()
			r := redis.NewSentinelClient(&redis.Options{
				Addr: s, Password: c.o.SentinelPassword, MaxRetries: -1, DisableIdentity: true, ContextTimeoutEnabled: true, DialTimeout: c.o.Probe, PoolSize: 1,
				DialerRetries: 1, Dialer: func(context.Context, string, string) (net.Conn, error) { return conn, nil },
			})
			defer r.Close()
			a, err := r.GetMasterAddrByName(ctx, c.o.Name).Result()
			if err != nil || len(a) != 2 {
				return // silent, or cut off: another one knows
			}
			mu.Lock()
			defer mu.Unlock()
			addrs = append(addrs, net.JoinHostPort(a[0], a[1]))
		})
	}
	all.Wait()
	return addrs
}
