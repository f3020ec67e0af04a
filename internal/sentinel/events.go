package sentinel

import (
	"cmp"
	"fmt"
	"slices"
)

// message is one publication.
type message struct{ channel, payload string }

// publisher turns a sequence of pictures into what subscribers are told. It is pure: one goroutine owns it.
type publisher struct {
	name   string
	master Instance // the last one that was told, or would have been at the beginning
	down   map[string]bool
	known  map[string]Instance // standbys and Sentinels by kind and node
	first  bool
}

func newPublisher(name string) *publisher {
	return &publisher{name: name, down: map[string]bool{}, known: map[string]Instance{}, first: true}
}

// next compares a picture with those before it.
func (p *publisher) next(now Picture) (out []message) {
	say := func(channel, format string, args ...any) {
		out = append(out, message{channel, fmt.Sprintf(format, args...)})
	}
	if !now.Live {
		return nil // a node that is cut off has no news
	}
	if m, ok := now.master(); ok && m.Addr != p.master.Addr {
		if p.master.known() {
			oldHost, oldPort := p.master.split()
			host, port := m.split()
			say("+switch-master", "%s %s %s %s %s", p.name, oldHost, oldPort, host, port)
		}
		p.master = m
	}
	if !p.master.known() {
		p.master = now.Active // not open: told when another one is
	}
	p.reachable("master", p.master.Node, p.describe("master", p.master), !now.Open, say)
	seen := map[string]bool{}
	for kind, list := range map[string][]Instance{"slave": now.Reads, "sentinel": now.Peers} {
		for _, i := range list {
			key := kind + " " + i.Node
			seen[key] = true
			p.appeared(kind, key, i, say)
			p.reachable(kind, i.Node, p.describe(kind, i), i.Down, say)
		}
	}
	for key := range p.known {
		if !seen[key] {
			delete(p.known, key)
		}
	}
	p.first = false
	slices.SortStableFunc(out, func(a, b message) int { // the order of maps is none; what moves clients goes first
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.channel, b.channel), cmp.Compare(a.payload, b.payload))
	})
	return out
}

func rank(m message) int {
	if m.channel == "+switch-master" {
		return 0
	}
	return 1
}

// appeared tells a standby or Sentinel that is new, has moved or began anew.
func (p *publisher) appeared(kind, key string, i Instance, say func(string, string, ...any)) {
	old, was := p.known[key]
	p.known[key] = i
	switch {
	case p.first:
	case !was && kind == "slave":
		say("+slave", "%s", p.describe(kind, i))
		say("+slave-reconf-done", "%s", p.describe(kind, i))
	case !was || old.Addr != i.Addr:
		say("+"+kind, "%s", p.describe(kind, i))
	case old.RunID != i.RunID && i.RunID != "":
		say("+reboot", "%s", p.describe(kind, i))
	}
}

// reachable tells who went silent or came back. A master that is silent for this node under a live view is so for the majority.
func (p *publisher) reachable(kind, node, text string, down bool, say func(string, string, ...any)) {
	key := kind + " " + node
	if node == "" || p.down[key] == down {
		return
	}
	p.down[key] = down
	sign := "-"
	if down {
		sign = "+"
	}
	say(sign+"sdown", "%s", text)
	if kind == "master" {
		say(sign+"odown", "%s", text)
	}
}

// describe is how Sentinel names an instance in its events.
func (p *publisher) describe(kind string, i Instance) string {
	host, port := i.split()
	if kind == "master" {
		return fmt.Sprintf("master %s %s %s", p.name, host, port)
	}
	masterHost, masterPort := p.master.split()
	return fmt.Sprintf("%s %s:%s %s %s @ %s %s %s", kind, host, port, host, port, p.name, masterHost, masterPort)
}
