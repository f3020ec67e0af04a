package failpoint

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// point is one armed place.
type point struct {
	action string
	wait   time.Duration // of sleep
	at     uint64        // the hit that counts, from 1
}

// parse reads NAME=ACTION;NAME=ACTION… (see the package comment).
func parse(spec string) (map[string]*point, error) {
	points := map[string]*point{}
	for one := range strings.SplitSeq(spec, ";") {
		if one = strings.TrimSpace(one); one == "" {
			continue
		}
		name, action, ok := strings.Cut(one, "=")
		if !ok || !slices.Contains(Names(), name) {
			return nil, fmt.Errorf("%q: want NAME=ACTION with a known name", one)
		}
		p, err := parseAction(action)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", one, err)
		}
		points[name] = p
	}
	return points, nil
}

func parseAction(text string) (*point, error) {
	parts := strings.Split(text, ":")
	p := &point{action: parts[0], at: 1}
	parts = parts[1:]
	switch p.action {
	case "kill", "stop", "panic":
	case "sleep":
		if len(parts) == 0 {
			return nil, fmt.Errorf("sleep for how long?")
		}
		var err error
		if p.wait, err = time.ParseDuration(parts[0]); err != nil {
			return nil, err
		}
		parts = parts[1:]
	default:
		return nil, fmt.Errorf("unknown action %q", p.action)
	}
	if len(parts) > 1 {
		return nil, fmt.Errorf("too many parts")
	}
	if len(parts) == 1 {
		var err error
		if p.at, err = strconv.ParseUint(parts[0], 10, 64); err != nil || p.at == 0 {
			return nil, fmt.Errorf("which hit is %q?", parts[0])
		}
	}
	return p, nil
}
