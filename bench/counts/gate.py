"""What the tools print, and how counts are held to earlier ones. Pure: text and numbers in, numbers and sentences out.

Counts are for one request. They come from two runs of different length, so that what a server does at its start and at its end
is in both of them and cancels out.
"""

import re

INSTRUCTIONS, ALLOCATIONS, SYSTEM_CALLS = "instructions", "allocations", "system_calls"
# Of the thread that writes the access log, for each line.
LINE_INSTRUCTIONS, LINE_ALLOCATIONS = "line_instructions", "line_allocations"
NAMES = {
    INSTRUCTIONS: "instructions",
    ALLOCATIONS: "allocations",
    SYSTEM_CALLS: "system calls",
    LINE_INSTRUCTIONS: "instructions of the log's thread",
}

# A larger share more than before fails: a small change of the compiler or of libc moves instructions by less.
INSTRUCTIONS_MORE = 0.03
# A larger share less is worth a new file.
INSTRUCTIONS_LESS = 0.01

# Instructions of the core with metrics and log, where each request is counted and is a line, to those without. The aim is 1.15. It was 1.155 where a
# request without both cost 12,400 instructions; since that costs 9,700, the same work is more in proportion.
OBSERVED_RATIO_MOST = 1.23

# The functions of the C library that hand out memory. Each call counts, whether it allocates anew or makes a block larger.
ALLOCATORS = {"malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc", "memalign"}


def callgrind(text):
    """Instructions and allocations of a whole run, from the file that callgrind writes.

    A name is written once and is then known by its number:

    >>> callgrind('''fn=(1) main
    ... 3 5
    ... cfn=(2) malloc
    ... calls=4 0
    ... 3 40
    ... fn=(3) serve
    ... cfn=(2)
    ... calls=2 0
    ... 7 20
    ... cfn=(4) free
    ... calls=9 0
    ... 8 9
    ... totals: 74
    ... ''')
    {'instructions': 74, 'allocations': 6}
    """
    numbers, allocations, called = {}, 0, None
    for line in text.splitlines():
        if name := re.match(r"c?fn=\((\d+)\)(?: (.*))?", line):
            number, written = name.groups()
            if written:
                numbers[number] = written
            if line.startswith("cfn="):
                called = numbers[number]
        elif line.startswith("calls=") and called in ALLOCATORS:
            allocations += int(line[len("calls="):].split()[0])
    totals = re.search(r"^totals: (\d+)", text, re.MULTILINE)
    return {INSTRUCTIONS: int(totals[1]), ALLOCATIONS: allocations}


def callgrind_by_thread(texts, writer):
    """The same where each thread has a file of its own. Apart is what the thread does in which a function has `writer` in its name.

    >>> core, log = "fn=(1) serve\\ncfn=(2) malloc\\ncalls=4 0\\ntotals: 74\\n", "fn=(1) access_log::writer::look\\ntotals: 30\\n"
    >>> callgrind_by_thread([core, log, "fn=(1) main\\ntotals: 6\\n"], "access_log::writer")
    {'instructions': 80, 'allocations': 4, 'line_instructions': 30, 'line_allocations': 0}
    """
    sums = {INSTRUCTIONS: 0, ALLOCATIONS: 0, LINE_INSTRUCTIONS: 0, LINE_ALLOCATIONS: 0}
    names = {INSTRUCTIONS: LINE_INSTRUCTIONS, ALLOCATIONS: LINE_ALLOCATIONS}
    for text in texts:
        for name, count in callgrind(text).items():
            sums[names[name] if writer in text else name] += count
    return sums


def trace(text, without):
    """System calls of a whole run by their names, but for those of one thread, from what `strace -f` writes of each.

    >>> trace('''41  epoll_wait(3,  <unfinished ...>
    ... 42  futex(0x7f, FUTEX_WAIT, 0, NULL) = 0
    ... 41  <... epoll_wait resumed>[], 8, 0) = 0
    ... 41  recvfrom(7, "GET", 3) = 3
    ... 41  recvfrom(7, "", 3) = -1 EAGAIN
    ... 41  +++ exited with 0 +++
    ... ''', without=42)
    {'epoll_wait': 1, 'recvfrom': 2}
    """
    calls = {}
    for thread, name in re.findall(r"^(\d+) +(\w+)\(", text, re.MULTILINE):
        if int(thread) != without:
            calls[name] = calls.get(name, 0) + 1
    return calls


def strace(text):
    """System calls of a whole run by their names, from the table that `strace -c` prints; errors have a column of their own.

    >>> strace('''% time     seconds  usecs/call     calls    errors syscall
    ... ------ ----------- ----------- --------- --------- ------------------
    ...  82.87    0.039842          77       513         1 epoll_wait
    ...   8.24    0.003962           7       501           sendto
    ... ------ ----------- ----------- --------- --------- ------------------
    ... 100.00    0.048075          21      1014         1 total
    ... ''')
    {'epoll_wait': 513, 'sendto': 501}
    """
    rows = (line.split() for line in text.splitlines())
    return {row[-1]: int(row[3]) for row in rows if len(row) >= 5 and row[3].isdigit() and row[-1] != "total"}


def difference(short, long, requests):
    """What each of `requests` costs, by which the long run is longer. What rounds to nothing happens with time, not with requests.

    >>> difference({'recv': 10, 'brk': 3}, {'recv': 2010, 'brk': 3, 'futex': 1}, 1000)
    {'recv': 2.0}
    """
    each = {name: round((count - short.get(name, 0)) / requests, 4) for name, count in long.items()}
    return {name: value for name, value in each.items() if abs(value) >= 0.005}


def judge(old, new, requests):
    """What became worse and what became better in a case whose turns have `requests` requests each, as sentences.

    Instructions may move a little. Allocations and system calls are whole numbers in each turn, and one more is too many:

    >>> before = {'instructions': 1000, 'allocations': 12, 'system_calls': 4.0}
    >>> judge(before, {'instructions': 1030, 'allocations': 12.02, 'system_calls': 4.01}, 1)
    ([], [])
    >>> judge(before, {'instructions': 1031, 'allocations': 13, 'system_calls': 3}, 1)
    (['instructions: 1,031, were 1,000 (+3.1 %)', 'allocations: 13, were 12'], ['system calls: 3, were 4'])
    >>> judge(before, {'instructions': 980, 'allocations': 12, 'system_calls': 4}, 1)
    ([], ['instructions: 980, were 1,000 (-2.0 %)'])

    Those of the thread that writes the log are held in the same way:

    >>> judge({**before, 'line_instructions': 3000}, {**before, 'line_instructions': 4000}, 1)
    (["instructions of the log's thread: 4,000, were 3,000 (+33.3 %)"], [])

    One more for 16 requests of a turn is seen as well:

    >>> judge(before, {'instructions': 1000, 'allocations': 12, 'system_calls': 4.0625}, 16)
    (['system calls: 4.0625, were 4'], [])
    """
    worse, better = [], []
    for figure in (INSTRUCTIONS, LINE_INSTRUCTIONS):
        if figure not in old:
            continue
        change = round(new[figure] / old[figure] - 1, 6)
        text = f"{NAMES[figure]}: {new[figure]:,.0f}, were {old[figure]:,.0f} ({change * 100:+.1f} %)"
        if change > INSTRUCTIONS_MORE:
            worse.append(text)
        elif change < -INSTRUCTIONS_LESS:
            better.append(text)
    for figure in (ALLOCATIONS, SYSTEM_CALLS):
        more = round(new[figure] * requests) - round(old[figure] * requests)
        if more:
            (worse if more > 0 else better).append(f"{NAMES[figure]}: {new[figure]:g}, were {old[figure]:g}")
    return worse, better
