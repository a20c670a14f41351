/* Counts what Python asks of its allocators, once `count_from_here` was called: memory for objects and what they hold.
 * An object that comes from a free list of the interpreter asks for none. */

#include <stddef.h>

typedef struct {
    void *context;
    void *(*malloc)(void *, size_t);
    void *(*calloc)(void *, size_t, size_t);
    void *(*realloc)(void *, void *, size_t);
    void (*free)(void *, void *);
} Allocator; /* PyMemAllocatorEx: see "Memory Management" in the manual of Python's C interface */

typedef void (*Exchange)(int domain, Allocator *);

static Allocator original[3];
static long long count;

static void *counting_malloc(void *domain, size_t size)
{
    Allocator *it = domain;
    count++;
    return it->malloc(it->context, size);
}

static void *counting_calloc(void *domain, size_t number, size_t size)
{
    Allocator *it = domain;
    count++;
    return it->calloc(it->context, number, size);
}

static void *counting_realloc(void *domain, void *old, size_t size)
{
    Allocator *it = domain;
    count++;
    return it->realloc(it->context, old, size);
}

static void counting_free(void *domain, void *old)
{
    Allocator *it = domain;
    it->free(it->context, old);
}

void count_from_here(Exchange get, Exchange set)
{
    for (int domain = 1; domain <= 2; domain++) { /* memory, and objects; 0 would need no lock, which `count` does */
        get(domain, &original[domain]);
        Allocator counting = {&original[domain], counting_malloc, counting_calloc, counting_realloc, counting_free};
        set(domain, &counting);
    }
}

long long counted(void)
{
    return count;
}
