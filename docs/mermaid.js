// Draws the diagrams of the book. Mermaid comes from a public server; without it they stay readable text.
const VERSION = '11.17.2'

const blocks = document.querySelectorAll('code.language-mermaid')
if (blocks.length) {
  import(`https://cdn.jsdelivr.net/npm/mermaid@${VERSION}/dist/mermaid.esm.min.mjs`).then(
    async ({ default: mermaid }) => {
      const dark = ['coal', 'navy', 'ayu'].some((theme) => document.documentElement.classList.contains(theme))
      mermaid.initialize({ startOnLoad: false, theme: dark ? 'dark' : 'default' })
      const drawings = [...blocks].map((code) => {
        const drawing = document.createElement('div')
        drawing.textContent = code.textContent
        code.parentElement.replaceWith(drawing)
        return drawing
      })
      await mermaid.run({ nodes: drawings })
    },
    (problem) => console.info('diagrams stay text:', problem.message),
  )
}
