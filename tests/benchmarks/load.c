/* The load on an echo server: load PORT CONNECTIONS SIZE LINE [udp].

   The program opens CONNECTIONS connections and prints "ready". Each line of standard input is a number of seconds, or
   a number of messages for each connection, with a minus sign. Until then each connection sends a message of SIZE bytes,
   waits until all of it has come back, and sends the next one. Every byte that comes back is compared, and the messages of two connections differ, so an answer that went
   to another connection is noticed. With a LINE above 0, a message consists of lines of LINE bytes. Then the program prints "MESSAGES SECONDS P50 P99": the number of messages, the seconds that they took in
   all, and the median and the 99th percentile of the seconds from sending a message to receiving its last byte.

   With udp, each message is a datagram. One that is lost is not sent again, so there may be few CONNECTIONS.
*/
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* The pattern repeats after these. They are a prime number, so that connections have different messages. */
#define PATTERN_BYTES 9973

struct conn {
    int fd;
    char *message;
    size_t sent, received;
    long left; /* messages to send */
    double start; /* of the message that is in flight */
};

static size_t size;
static int udp;
static char *scratch;
static double *times; /* the seconds of each message */
static size_t count, room;
static double end;
static int in_flight;

static void die(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void push(struct conn *c) {
    while (c->sent < size) {
        ssize_t n = send(c->fd, c->message + c->sent, size - c->sent, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN) return;
            die("send");
        }
        c->sent += n;
    }
}

static void begin(struct conn *c) {
    c->sent = c->received = 0;
    c->start = now();
    in_flight++;
    push(c);
}

static void finished(struct conn *c) {
    double t = now();
    if (count == room) {
        room = room ? room * 2 : 1 << 16;
        times = realloc(times, room * sizeof *times);
        if (!times) die("realloc");
    }
    times[count++] = t - c->start;
    in_flight--;
    if (--c->left > 0 && t < end) begin(c);
}

static void pull(struct conn *c) {
    while (c->received < size) {
        ssize_t n = recv(c->fd, scratch, size - c->received, 0);
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) die("recv");
        if (memcmp(scratch, c->message + c->received, n)) errno = EBADMSG, die("the echo differs from the message");
        c->received += n;
    }
    finished(c);
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void connect_to(struct conn *c, int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int yes = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, udp ? SOCK_DGRAM : SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0) die("connect");
    if (!udp) setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
}

/* Return a copy of a message in which each `line` bytes are a line. */
static char *lines(const char *pattern, size_t line) {
    char *message = malloc(size);
    if (!message) die("malloc");
    for (size_t i = 0; i < size; i++)
        message[i] = (i + 1) % line == 0 ? '\n' : pattern[i] == '\n' ? ' ' : pattern[i];
    return message;
}

int main(int argc, char **argv) {
    struct epoll_event events[256];
    struct rlimit files;
    double seconds;

    if (argc < 5) return fprintf(stderr, "load PORT CONNECTIONS SIZE LINE [udp]\n"), 2;
    udp = argc > 5;
    int connections = atoi(argv[2]), epoll = epoll_create1(0);
    struct conn *conns = calloc(connections, sizeof *conns);
    size = atol(argv[3]);
    size_t line = atol(argv[4]);
    scratch = malloc(size);
    char *pattern = malloc(size + PATTERN_BYTES);
    if (!conns || !pattern || !scratch) die("malloc");
    for (size_t i = 0; i < size + PATTERN_BYTES; i++) pattern[i] = i * i % PATTERN_BYTES % 256;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    for (int i = 0; i < connections; i++) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = &conns[i]};
        conns[i].message = line ? lines(pattern + i % PATTERN_BYTES, line) : pattern + i % PATTERN_BYTES;
        connect_to(&conns[i], atoi(argv[1]));
        conns[i].sent = conns[i].received = size; /* no message is in flight */
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, conns[i].fd, &event) < 0) die("epoll_ctl");
    }
    puts("ready");
    fflush(stdout);
    while (scanf("%lf", &seconds) == 1) {
        double start = now();
        count = 0;
        end = start + (seconds < 0 ? 1e9 : seconds);
        for (int i = 0; i < connections; i++) {
            conns[i].left = seconds < 0 ? (long)-seconds : LONG_MAX;
            begin(&conns[i]);
        }
        while (in_flight) {
            int n = epoll_wait(epoll, events, 256, -1);
            for (int i = 0; i < n; i++) {
                struct conn *c = events[i].data.ptr;
                if (c->sent < size) push(c);
                if (c->received < size) pull(c);
            }
        }
        double total = now() - start;
        qsort(times, count, sizeof *times, ascending);
        printf("%zu %.6f %.9f %.9f\n", count, total, times[count / 2], times[count * 99 / 100]);
        fflush(stdout);
    }
    return 0;
}
