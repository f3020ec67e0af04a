package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"repld/internal/admin"
)

// The piece in numbers.
const (
	travelDelay  = 40 * time.Second // of c: longer than everything up to the hold takes
	fillKeys     = 1_000_000
	userKeys     = 10_000 // of them, as user:N: what is deleted by mistake
	orderKeys    = 1_000  // good writes after the mistake
	changedAfter = 10     // of the orders, written again in the new history before the salvage: conflicts
)

// timeTravel fills the store, makes the mistake in mid-traffic, undoes it, salvages the good writes of after, and counts.
func (d *demo) timeTravel(ctx context.Context) (string, error) {
	if err := d.begin(ctx); err != nil {
		return "", err
	}
	if err := d.fill(ctx); err != nil {
		return "", err
	}
	if err := d.mistake(ctx); err != nil {
		return "", err
	}
	if err := d.undo(ctx); err != nil {
		return "", err
	}
	salvaged, conflicts, err := d.salvageAll(ctx)
	if err != nil {
		return "", err
	}
	if err := d.countTravel(ctx); err != nil {
		return "", err
	}
	return fmt.Sprintf("demo-timetravel: keys=%d deleted=%d restored=%d salvaged=%d conflicts=%d acked=%d lost=0 verify=ok promote_ms=%d seconds=%.1f",
		fillKeys, userKeys, userKeys, salvaged, conflicts, d.acked, d.promote.Milliseconds(), time.Since(d.start).Seconds()), nil
}

// patient is a client whose one trip may take long: it carries many commands.
func patient(n *node) *redis.Client {
	o := redis.Options{Network: "unix", Addr: n.client, PoolSize: 1, MaxRetries: -1, DialTimeout: time.Second, DialerRetries: 1, DisableIdentity: true}
	o.ReadTimeout, o.WriteTimeout = 30*time.Second, 30*time.Second
	return redis.NewClient(&o)
}

func userKey(i int) string  { return fmt.Sprintf("user:%05d", i) }
func orderKey(i int) string { return fmt.Sprintf("order:%04d", i) }

// fill writes the keys, many with one command.
func (d *demo) fill(ctx context.Context) error {
	d.title(fmt.Sprintf("%d keys, %d of them users", fillKeys, userKeys))
	c := patient(d.nodes["a"])
	defer c.Close()
	const perSet, perTrip = 500, 20
	begin := time.Now()
	for i := 0; i < fillKeys; {
		_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
			for range perTrip {
				pairs := make([]any, 0, 2*perSet)
				for range perSet {
					key := fmt.Sprintf("item:%06d", i)
					if i < userKeys {
						key = userKey(i)
					}
					pairs = append(pairs, key, "value of "+key)
					i++
				}
				p.MSet(ctx, pairs...)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("fill: %w", err)
		}
	}
	n, err := c.DBSize(ctx).Result()
	if err != nil || n != fillKeys {
		return fmt.Errorf("%d keys after the fill, want %d: %w", n, fillKeys, err)
	}
	d.say("filled in %.1f s; c has them on disk, and none in its state yet", time.Since(begin).Seconds())
	return nil
}

// mistake deletes the users in mid-traffic, and goes on with good writes.
func (d *demo) mistake(ctx context.Context) error {
	d.title("16 clients write; then somebody runs SCAN user:* and DEL on what it finds")
	d.writers.start(ctx, d.nodes["a"])
	if err := d.progress(ctx, 2*time.Second); err != nil {
		return err
	}
	c := patient(d.nodes["a"])
	defer c.Close()
	deleted := int64(0)
	for cursor := uint64(0); ; {
		keys, next, err := c.Scan(ctx, cursor, "user:*", 1000).Result()
		if err != nil {
			return fmt.Errorf("scan: %w", err)
		}
		if len(keys) > 0 {
			n, err := c.Del(ctx, keys...).Result()
			if err != nil {
				return fmt.Errorf("del: %w", err)
			}
			deleted += n
		}
		if cursor = next; cursor == 0 || deleted == userKeys {
			break
		}
	}
	if deleted != userKeys {
		return fmt.Errorf("%d users deleted, want %d", deleted, userKeys)
	}
	d.say("%d users are gone, on a and b at once", deleted)
	_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range orderKeys {
			p.Set(ctx, orderKey(i), "good", 0)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write the orders: %w", err)
	}
	d.say("%d orders written after that: good writes", orderKeys)
	return d.progress(ctx, time.Second)
}

// undo holds c, looks, and promotes it to just before the mistake, with the writers running.
func (d *demo) undo(ctx context.Context) error {
	d.title("The mistake is noticed: hold c, find the moment, promote c to just before it")
	c := d.nodes["c"]
	text, err := d.replctl(ctx, "--config", c.config, "hold", "c", "--reason", "users deleted")
	if err != nil {
		return err
	}
	d.show(text)
	if text, err = d.replctl(ctx, "--config", c.config, "promote", "c", "--before", "DEL user:*", "--plan"); err != nil {
		return err
	}
	d.show(text)
	begin := time.Now()
	if text, err = d.replctl(ctx, "--config", c.config, "-o", "json", "promote", "c", "--before", "DEL user:*", "--yes", "--reason", "users deleted"); err != nil {
		return err
	}
	d.promote = time.Since(begin)
	var out admin.PromoteResult
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		return fmt.Errorf("read the result of replctl promote: %w", err)
	}
	d.epoch = out.Epoch
	if err := d.moveWriters(ctx, "c"); err != nil {
		return err
	}
	d.say("c is active in epoch %d after %d ms: history ends at LSN %d, %d records replayed, %d set aside; clients write to c", out.Epoch, d.promote.Milliseconds(), out.Moment.LSN, out.Replay, out.Moment.Aside)
	back, err := d.present(ctx, userKeys, userKey, func(key string) string { return "value of " + key })
	if err != nil {
		return err
	}
	d.say("%d of %d users are back", back, userKeys)
	if back != userKeys {
		return fmt.Errorf("%d users after the promotion, want %d", back, userKeys)
	}
	there, err := d.present(ctx, orderKeys, orderKey, nil)
	if err != nil || there != 0 {
		return fmt.Errorf("%d orders in the new history before the salvage, want none: %w", there, err)
	}
	return d.progress(ctx, time.Second)
}

// present counts which of n keys the active has, with the value wanted.
func (d *demo) present(ctx context.Context, n int, name func(int) string, want func(key string) string) (int, error) {
	c := patient(d.nodes["c"])
	defer c.Close()
	found := 0
	for i := 0; i < n; i += 500 {
		var keys []string
		for j := i; j < min(i+500, n); j++ {
			keys = append(keys, name(j))
		}
		values, err := c.MGet(ctx, keys...).Result()
		if err != nil {
			return 0, fmt.Errorf("count: %w", err)
		}
		for j, v := range values {
			if v != nil && (want == nil || v == want(keys[j])) {
				found++
			}
		}
	}
	return found, nil
}

// salvageAll writes the good writes of after the mistake again, first from c's suffix, then from that of the old active, which may reach further.
func (d *demo) salvageAll(ctx context.Context) (salvaged, conflicts uint64, err error) {
	d.title(fmt.Sprintf("Salvage: what came after, without the mistake; %d orders were changed meanwhile", changedAfter))
	c := patient(d.nodes["c"])
	defer c.Close()
	for i := range changedAfter {
		if err := c.Set(ctx, orderKey(i), "changed since", 0).Err(); err != nil {
			return 0, 0, err
		}
	}
	for _, name := range []string{"a", "b"} {
		if err := d.rejoined(ctx, d.nodes[name]); err != nil {
			return 0, 0, err
		}
	}
	d.writers.stop()
	total, gone, err := d.writers.missing(ctx, d.nodes["c"])
	if err != nil {
		return 0, 0, err
	}
	d.say("writers stopped after %d acknowledged writes, %d of them only in what was set aside", total, len(gone))
	for _, name := range []string{"c", "a"} {
		r, err := d.salvage(ctx, name)
		if err != nil {
			return 0, 0, err
		}
		d.say("salvage of what %s set aside: %d keys written again, %d in conflict and left, %d there already, %d effects of the mistake left out", name, r.Apply, r.Conflicts, r.Same, r.Excepted)
		salvaged += r.Apply
		if r.Excepted != userKeys || r.Conflicts != changedAfter {
			return 0, 0, fmt.Errorf("salvage from %s: %d conflicts and %d left out, want %d and %d", name, r.Conflicts, r.Excepted, changedAfter, userKeys)
		}
		conflicts = r.Conflicts
	}
	// A write with an unknown outcome may be in the suffix, or not.
	least := uint64(len(gone) + orderKeys - changedAfter)
	if most := least + uint64(d.writers.unknown.Load()); salvaged < least || salvaged > most {
		return 0, 0, fmt.Errorf("%d keys salvaged, want %d to %d", salvaged, least, most)
	}
	return salvaged, conflicts, nil
}

// salvage runs replctl salvage apply for the newest suffix of a node.
func (d *demo) salvage(ctx context.Context, name string) (admin.SalvageResult, error) {
	var r admin.SalvageResult
	all, err := d.nodes[name].admin.Diverged(ctx)
	if err != nil || len(all) == 0 {
		return r, fmt.Errorf("%s has set nothing aside: %w", name, err)
	}
	text, err := d.replctl(ctx, "--config", d.nodes["c"].config, "-o", "json", "salvage", "apply", all[len(all)-1].Name, "--node", name, "--except", "DEL user:*", "--limit", "1")
	var exit *exec.ExitError
	if err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 3) { // 3: conflicts were left
		return r, err
	}
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return r, fmt.Errorf("read the result of replctl salvage: %w", err)
	}
	return r, nil
}

// countTravel reads everything back and compares the copies.
func (d *demo) countTravel(ctx context.Context) error {
	d.title("Is everything as it should be?")
	total, lost, err := d.writers.missing(ctx, d.nodes["c"])
	if err != nil {
		return err
	}
	if len(lost) > 0 {
		return fmt.Errorf("%d of %d acknowledged writes are missing after the salvage, the first is %s", len(lost), total, lost[0])
	}
	d.acked = total
	for _, check := range []struct {
		what string
		n    int
		name func(int) string
		want func(string) string
	}{
		{"users", userKeys, userKey, func(key string) string { return "value of " + key }},
		{"orders that were changed since, unharmed", changedAfter, orderKey, func(string) string { return "changed since" }},
		{"other orders", orderKeys - changedAfter, func(i int) string { return orderKey(i + changedAfter) }, func(string) string { return "good" }},
	} {
		n, err := d.present(ctx, check.n, check.name, check.want)
		if err != nil {
			return err
		}
		d.say("%d of %d %s", n, check.n, check.what)
		if n != check.n {
			return fmt.Errorf("%d of %d %s", n, check.n, check.what)
		}
	}
	d.say("%d of %d acknowledged writes of the traffic", total, total)
	for _, name := range []string{"a", "b"} {
		if err := d.rejoined(ctx, d.nodes[name]); err != nil {
			return err
		}
	}
	text, err := d.replctl(ctx, "--config", d.nodes["c"].config, "verify")
	if err != nil {
		return err
	}
	d.show(strings.TrimSpace(text))
	return d.showStatus(ctx, "c")
}
