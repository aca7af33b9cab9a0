"""Reports as HTML: one page that needs no other file, with figures in SVG."""
