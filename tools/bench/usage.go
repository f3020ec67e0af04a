package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// cost is what a measurement used. What the kernel does not tell is negative.
type cost struct {
	CPU       []processCost `json:"processes"`
	Generator float64       `json:"generator_cpu_seconds"` // of this program: the clients
	PerOp     float64       `json:"servers_cpu_us_per_operation"`
	// Of the whole disk, whoever used it: the kernel's count of a process (written_bytes) is of the pages that it made dirty, and a page may be large.
	Flushes float64 `json:"device_flushes_per_second"`
	Written float64 `json:"device_written_bytes_per_operation"`
}

// processCost is one server with its children.
type processCost struct {
	Process string  `json:"process"`
	CPU     float64 `json:"cpu_seconds"`
	Written int64   `json:"written_bytes"`
}

// usage are counters at one moment.
type usage struct {
	names   []string
	cpu     []float64 // seconds
	written []int64
	own     float64
	disk    disk
}

// disk are counters of the device that holds the folder; zero where the kernel does not tell.
type disk struct{ written, flushes int64 }

// ticks a second of /proc/PID/stat: USER_HZ is 100 on every Linux that Go runs on.
const ticks = 100

func usageOf(r *running, dir string) usage {
	u := usage{own: selfCPU(), disk: diskOf(dir)}
	children := processTree()
	for _, p := range r.all {
		cpu, written := 0.0, int64(0)
		for _, pid := range family(children, p.cmd.Process.Pid) {
			cpu += cpuOf(pid)
			if n := writtenBy(pid); n < 0 || written < 0 {
				written = -1
			} else {
				written += n
			}
		}
		u.names, u.cpu, u.written = append(u.names, p.name), append(u.cpu, cpu), append(u.written, written)
	}
	return u
}

// since is what was used between two moments.
func (u usage) since(before usage, operations int, took time.Duration) *cost {
	c := &cost{Generator: u.own - before.own, Flushes: -1, Written: -1}
	// A device that counts no flushes stays where it was.
	if n := u.disk.flushes - before.disk.flushes; n > 0 {
		c.Flushes = float64(n) / took.Seconds()
	}
	if before.disk.written > 0 {
		c.Written = float64(u.disk.written-before.disk.written) / float64(operations)
	}
	cpu := 0.0
	for i, name := range u.names {
		p := processCost{Process: name, CPU: u.cpu[i] - before.cpu[i], Written: -1}
		if u.written[i] >= 0 && before.written[i] >= 0 {
			p.Written = u.written[i] - before.written[i]
		}
		cpu += p.CPU
		c.CPU = append(c.CPU, p)
	}
	c.PerOp = cpu * 1e6 / float64(operations)
	return c
}

func selfCPU() float64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

func diskOf(dir string) (d disk) {
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil {
		return d
	}
	text, err := os.ReadFile("/proc/diskstats")
	if err != nil {
		return d
	}
	major, minor := fmt.Sprint(unix.Major(st.Dev)), fmt.Sprint(unix.Minor(st.Dev))
	for line := range strings.SplitSeq(string(text), "\n") {
		// Documentation/admin-guide/iostats.rst: after major, minor and name, field 7 counts sectors of 512 bytes written, field 16 flush requests completed.
		if f := strings.Fields(line); len(f) >= 19 && f[0] == major && f[1] == minor {
			d.written, _ = strconv.ParseInt(f[9], 10, 64)
			d.flushes, _ = strconv.ParseInt(f[18], 10, 64)
			d.written *= 512
		}
	}
	return d
}

// processTree maps every process to its children.
func processTree() map[int][]int {
	out := map[int][]int{}
	all, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range all {
		if f := statFields(path); len(f) > 1 {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			parent, _ := strconv.Atoi(f[1])
			out[parent] = append(out[parent], pid)
		}
	}
	return out
}

func family(children map[int][]int, pid int) []int {
	out := []int{pid}
	for _, c := range children[pid] {
		out = append(out, family(children, c)...)
	}
	return out
}

// statFields are those after the name, which may hold spaces: state, parent, …
func statFields(path string) []string {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
}

// cpuOf is the processor time of a process and of its children that have ended.
func cpuOf(pid int) float64 {
	f := statFields(fmt.Sprintf("/proc/%d/stat", pid))
	if len(f) < 15 {
		return 0
	}
	total := 0.0
	for _, s := range f[11:15] { // utime, stime, cutime, cstime
		n, _ := strconv.ParseFloat(s, 64)
		total += n
	}
	return total / ticks
}

// writtenBy is what a process caused to be sent to the disk, -1 if the kernel does not tell.
func writtenBy(pid int) int64 {
	return procField(pid, "io", "write_bytes:")
}

// procField is a number of /proc/PID/file after its name.
func procField(pid int, file, name string) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return -1
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		if rest, ok := strings.CutPrefix(line, name); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 64)
			if err != nil {
				return -1
			}
			return n
		}
	}
	return -1
}

// peak is the highest resident set of a process in bytes; of a family of processes, what all hold now without counting shared pages twice.
func (p *process) peak() (int64, error) {
	all := family(processTree(), p.cmd.Process.Pid)
	if len(all) == 1 {
		if kb := procField(all[0], "status", "VmHWM:"); kb >= 0 {
			return kb << 10, nil
		}
		return 0, fmt.Errorf("no VmHWM of %s", p.name)
	}
	total := int64(0)
	for _, pid := range all {
		total += max(0, procField(pid, "smaps_rollup", "Pss:")) << 10
	}
	return total, nil
}

// rss is the resident memory in bytes now.
func (p *process) rss() int64 { return max(0, procField(p.cmd.Process.Pid, "status", "VmRSS:")) << 10 }
