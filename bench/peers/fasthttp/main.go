// The same answers from fasthttp, on one thread of Go. It has no deadlines by default, and its Server header is off.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/valyala/fasthttp"
)

const (
	hello = "hello"
	// Every so many requests of /mixed, one computes, for so long, with so many steps between two looks at the clock.
	computingEvery = 100
	computing      = 10 * time.Millisecond
	steps          = 10_000
	// CLOCK_THREAD_CPUTIME_ID
	threadCPU = 3
	// More than any limit of open files.
	concurrency = 1 << 24
)

type message struct {
	Message string `json:"message"`
	Number  int    `json:"number"`
}

var (
	// Set by the linker: the version of the package.
	version string
	held    int64
	mixed   int64
	sink    uint64
)

func main() {
	if os.Args[len(os.Args)-1] == "--version" {
		fmt.Printf("fasthttp %s, %s\n", version, runtime.Version())
		return
	}
	runtime.GOMAXPROCS(1)
	// Go asks for a backlog of somaxconn, and sets TCP_NODELAY.
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr())
	server := fasthttp.Server{Handler: serve, NoDefaultServerHeader: true, Concurrency: concurrency}
	log.Fatal(server.Serve(listener))
}

func serve(ctx *fasthttp.RequestCtx) {
	switch string(ctx.Path()) {
	case "/":
		ctx.SetBodyString(hello)
	case "/json":
		body, err := json.Marshal(message{hello, 42})
		if err != nil {
			log.Fatal(err)
		}
		ctx.SetContentType("application/json")
		ctx.SetBody(body)
	case "/echo":
		ctx.SetContentType("application/octet-stream")
		ctx.SetBody(ctx.PostBody())
	case "/sleep":
		time.Sleep(time.Millisecond)
		ctx.SetBodyString("slept")
	case "/pending":
		atomic.AddInt64(&held, 1)
		select {}
	case "/held":
		ctx.SetBodyString(strconv.FormatInt(atomic.LoadInt64(&held), 10))
	case "/sse":
		ctx.SetContentType("text/event-stream")
		ctx.Response.Header.Set("Cache-Control", "no-cache")
		ctx.SetBodyStreamWriter(event)
	case "/mixed":
		if atomic.AddInt64(&mixed, 1)%computingEvery == 0 {
			compute()
		}
		ctx.SetBodyString(hello)
	default:
		ctx.Error("", fasthttp.StatusNotFound)
	}
}

// One event, then silence.
func event(writer *bufio.Writer) {
	if _, err := writer.WriteString("data: hello\n\n"); err != nil {
		return
	}
	if err := writer.Flush(); err != nil {
		return
	}
	select {}
}

// Computes until its thread has had the CPU time; other handlers may run meanwhile, on another thread.
func compute() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	end := threadCPUTime() + computing
	state := uint64(1)
	for threadCPUTime() < end {
		for step := 0; step < steps; step++ {
			state = state*6364136223846793005 + 1
		}
	}
	sink = state
}

func threadCPUTime() time.Duration {
	var now syscall.Timespec
	_, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, threadCPU, uintptr(unsafe.Pointer(&now)), 0)
	if errno != 0 {
		log.Fatal(errno)
	}
	return time.Duration(now.Nano())
}
