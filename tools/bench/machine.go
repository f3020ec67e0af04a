package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// machine are the facts that figures depend on.
type machine struct {
	CPUs     int      `json:"cpus"`
	CPU      string   `json:"cpu"`
	Memory   int64    `json:"memory_bytes"`
	Kernel   string   `json:"kernel"`
	Disk     string   `json:"file_system"`
	Go       string   `json:"go"`
	Versions []string `json:"versions,omitempty"`
}

func (m machine) String() string {
	s := fmt.Sprintf("%d CPUs (%s), %.0f GiB, Linux %s, %s, %s", m.CPUs, m.CPU, float64(m.Memory)/(1<<30), m.Kernel, m.Disk, m.Go)
	if len(m.Versions) > 0 {
		s += "; " + strings.Join(m.Versions, "; ")
	}
	return s
}

func machineFacts(o options) machine {
	m := machine{CPUs: runtime.NumCPU(), CPU: "unknown", Go: runtime.Version(), Disk: "unknown file system"}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, rest, ok := strings.Cut(string(text), "model name"); ok {
			line, _, _ := strings.Cut(rest, "\n")
			m.CPU = strings.Trim(line, "\t: ")
		}
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		m.Memory = int64(info.Totalram) * int64(info.Unit)
	}
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(text))
	}
	m.Disk = mountOf(o.dir)
	for _, c := range [][]string{{"redis-server", "--version"}, {"etcd", "--version"}, {"postgres", "--version"}, {"nats-server", "--version"}} {
		if path := o.program(c[0]); path != "" {
			if text, err := exec.Command(path, c[1:]...).Output(); err == nil {
				line, _, _ := strings.Cut(string(text), "\n")
				if head, _, ok := strings.Cut(line, " sha="); ok {
					line = head
				}
				m.Versions = append(m.Versions, strings.TrimSpace(line))
			}
		}
	}
	return m
}

// mountOf tells device, type and options of the file system that holds dir.
func mountOf(dir string) string {
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "unknown file system"
	}
	best, out := -1, "unknown file system"
	for line := range strings.SplitSeq(string(text), "\n") {
		f := strings.Fields(line)
		if len(f) < 4 || !(f[1] == "/" || dir == f[1] || strings.HasPrefix(dir, f[1]+"/")) || len(f[1]) <= best {
			continue
		}
		best, out = len(f[1]), fmt.Sprintf("%s on %s (%s)", f[2], f[0], f[3])
	}
	return out
}
