package main

import (
	"os"
	"os/exec"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// pin keeps this process, with all its threads, on one core, and to one thread that runs Go code.
func pin(core int) error {
	runtime.GOMAXPROCS(1)
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	set := only(core)
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			return err
		}
		if err := unix.SchedSetaffinity(id, &set); err != nil { // threads that come later inherit it
			return err
		}
	}
	return nil
}

func only(core int) (set unix.CPUSet) {
	set.Set(core)
	return set
}

// startOn starts a program on a core of its own: it inherits that of the thread which starts it.
func startOn(core int, cmd *exec.Cmd) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return err
	}
	there := only(core)
	if err := unix.SchedSetaffinity(0, &there); err != nil {
		return err
	}
	err := cmd.Start()
	if back := unix.SchedSetaffinity(0, &before); err == nil {
		err = back
	}
	return err
}
