package main

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"unsafe"
)

const clockMonotonic = 1

// now is CLOCK_MONOTONIC in nanoseconds. Go's own monotonic reading cannot be taken out of a time.Time.
func now() int64 {
	var t syscall.Timespec
	if _, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&t)), 0); errno != 0 {
		panic(errno)
	}
	return t.Nano()
}

// recorder appends events. One write per event with O_APPEND: the lines of several containers never mix.
type recorder struct {
	mutex sync.Mutex
	name  string
	files []*os.File
}

func newRecorder(folder, name string, quiet bool) *recorder {
	record := &recorder{name: name}
	if quiet {
		return record
	}
	record.files = append(record.files, os.Stdout)
	pod, err := os.Hostname()
	if err != nil {
		panic(err)
	}
	syscall.Umask(0) // containers of other users append to the same file
	file, err := os.OpenFile(filepath.Join(folder, pod), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
	if err == nil {
		record.files = append(record.files, file)
	} else if !os.IsNotExist(err) {
		fmt.Fprintln(os.Stderr, "witness: no record in a file:", err)
	}
	return record
}

func (r *recorder) event(what string, detail ...any) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	line := fmt.Sprintf("%d %s %s", now(), r.name, what)
	for _, each := range detail {
		line += fmt.Sprintf(" %v", each)
	}
	for _, file := range r.files {
		fmt.Fprintln(file, line)
	}
}
